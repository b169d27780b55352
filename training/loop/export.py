"""The models that a stage starts from, and export of the ones it has trained."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from torch import nn
from torch.distributed.fsdp import FSDPModule

from gendrpix.models.networks import Autoencoder
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.specs import ModelSpec
from gendrpix.weights.load import load_autoencoder
from training.loop.ema import Ema, whole

Restorer = TypeVar("Restorer", bound=RestorerPipeline)


def load_trained(kind: type[Restorer], location: str, option: str, spec: ModelSpec, **components: Any) -> Restorer:
    """A restorer that an earlier stage has exported, in float32, from a folder or hub id.

    Raises ValueError where none was named, where none is found, or where it belongs to another model family.
    """
    label = kind.restorer.label
    if not location:
        raise ValueError(f"No {label} to start from: pass {option} with the folder or hub id of its weights.")
    pipeline = kind.from_pretrained(location, dtype=torch.float32, **components)
    if pipeline.config.model != spec.name:
        raise ValueError(
            f"{location} holds a {label} of the model family {pipeline.config.model!r}, this run trains {spec.name!r}; "
            f"pass --model {pipeline.config.model}, or other weights with {option}."
        )
    return pipeline


def load_trained_autoencoder(location: str, spec: ModelSpec) -> Autoencoder:
    """An autoencoder in float32, from a folder or hub id.

    Raises ValueError where none was named or found, or where its latents do not fit the model family.
    """
    if not location:
        raise ValueError("No autoencoder to start from: pass --autoencoder with the folder or hub id of its weights.")
    autoencoder = load_autoencoder(location)
    channels = autoencoder.config.latent_channels
    if channels != spec.latent_channels:
        raise ValueError(
            f"{location} has {channels} latent channels and the model family {spec.name!r} {spec.latent_channels}; "
            f"pass another --autoencoder."
        )
    return autoencoder


def finished(accelerator: Accelerator, model: nn.Module, ema: Ema) -> Any:
    """An unwrapped float32 copy of a trained model with its averaged weights, ready to export.

    Every process must call it: the parts of weights that are divided are gathered.
    """
    own = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if isinstance(own, FSDPModule):
        return _gathered(own, ema)
    copied = copy.deepcopy(own).float()
    if ema.shadow_params:
        ema.copy_to(copied.parameters())
    return copied


def _gathered(own: Any, ema: Ema) -> Any:
    """A whole model of the kind that FSDP has divided, with the averaged weights."""
    weights = {name: whole(weight.detach()) for name, weight in own.state_dict().items()}
    if ema.shadow_params:
        names = [name for name, _ in own.named_parameters()]
        weights |= dict(zip(names, ema.whole_averages(), strict=True))
    original: Any = next(kind for kind in type(own).__mro__ if not issubclass(kind, FSDPModule))
    result = original.from_config(own.config)
    result.load_state_dict(weights)
    if hasattr(own, "attn_processors"):
        result.set_attn_processor(own.attn_processors)
    return result.to(next(iter(weights.values())).device)


def export(accelerator: Accelerator, models: Mapping[str, Any], folder: Path) -> Path:
    """Save each model or pipeline as `folder/name` in fp16 safetensors; replaces an earlier export as a whole.

    Written beside and renamed. The given objects keep their own precision. Only the main process writes.
    """
    if accelerator.is_main_process:
        with made_beside(folder) as partial:
            for name, model in models.items():
                halved = copy.deepcopy(model)
                for part in halved.components.values() if isinstance(halved, DiffusionPipeline) else (halved,):
                    if isinstance(part, nn.Module):
                        nn.Module.to(part, "cpu", torch.float16)  # diffusers' own `to` warns that this is not for use
                halved.save_pretrained(partial / name, safe_serialization=True)
    accelerator.wait_for_everyone()
    return folder


def replace_saved(folder: Path, model: Any, **options: Any) -> Path:
    """Save a model or pipeline beside its folder and rename, so that a failure leaves the earlier one."""
    with made_beside(folder) as partial:
        model.save_pretrained(partial, safe_serialization=True, **options)
        for path in partial.rglob("*.json"):
            _forget_place(path)
    return folder


@contextmanager
def made_beside(folder: Path) -> Iterator[Path]:
    """A folder that takes the name `folder` once the body has filled it; where the body fails, nothing of it is left.

    Raises ValueError where weights cannot be written there.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"The weights could not be written to {folder} ({error}); free some space and start again."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _forget_place(path: Path) -> None:
    """Take the folder that a model came from out of its configuration: it tells of the machine."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

"""Where weights lie: bundled ones by name, folders, hub ids; one way to each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from gendrpix.files import ASSETS
from gendrpix.models.networks import Autoencoder
from gendrpix.specs import NEG_PAD, PATCH, POS_PAD, Offset, find_restorer
from gendrpix.weights.verify import (
    CONFIG_FILE,
    SUMS_FILE,
    WeightsError,
    check_model,
    check_sums,
    read_config,
    read_shapes,
)

INDEX_FILE = "model_index.json"
OPTIONAL_SETTINGS = ("alpha_bar", "pos_pad", "neg_pad")
"""Settings of a restorer that older weights do without."""

BUNDLED = ASSETS / "checkpoints"
"""Folder of the weights that come with the project, one folder a model family."""


def find_folder(location: str | Path, revision: str | None = None) -> Path:
    """The local folder of a location: a folder, the name of a bundled family, or a hub id, which is downloaded.

    Raises ValueError if it is none of them.
    """
    for folder in (Path(location), BUNDLED / str(location)):
        if folder.is_dir():
            return folder
    try:
        patterns = ["*.json", "*.safetensors", SUMS_FILE]
        return Path(snapshot_download(str(location), revision=revision, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"No weights at {str(location)!r}: it is no folder here, no bundled model, and could not be had from the "
            f"hub ({type(error).__name__}). Check the name, or the network, or download the folder first."
        ) from error


def find_restorer_folder(restorer: str, weights: str | Path) -> Path:
    """The folder of one restorer: within `weights`, which holds one a restorer, or that folder itself."""
    find_restorer(restorer)
    folder = find_folder(weights)
    if (folder / restorer / INDEX_FILE).is_file():
        return folder / restorer
    if (folder / INDEX_FILE).is_file():
        return folder
    raise ValueError(
        f"{folder} has no weights of {restorer}: expected {restorer}/model_index.json in it. "
        f"Train them (docs/training.md), or pass another folder or hub id with --weights."
    )


def load_autoencoder(folder: str | Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """An autoencoder from a folder or hub id, of the class that its config names. Raises ValueError."""
    place = find_folder(folder)
    check_listed(place)
    name = read_config(place / CONFIG_FILE).get("_class_name")
    kind = next((kind for kind in (AutoencoderKL, AutoencoderDC) if kind.__name__ == name), None)
    if kind is None:
        raise WeightsError(
            f"{place / CONFIG_FILE} names the class {str(name)[:60]!r}; expected one of AutoencoderKL, AutoencoderDC."
        )
    autoencoder: Autoencoder = load_model(place, kind, dtype)
    return autoencoder


def load_model(folder: Path, kind: type[Any], dtype: torch.dtype) -> Any:
    """A model of that diffusers class, checked before it is loaded, ready to use. Raises WeightsError."""
    check_model(folder, kind)
    return kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)


def load_prompts(path: Path) -> Tensor:
    """The tensor "prompts" of a restorer's file, which holds nothing else. Raises WeightsError."""
    shapes = read_shapes(path)
    if shapes.keys() != {"prompts"}:
        raise WeightsError(f"{path} holds {', '.join(sorted(shapes))[:100]}; expected the one tensor 'prompts'.")
    return load_file(path)["prompts"]


def read_settings(folder: Path, pipeline: str) -> dict[str, Any]:
    """What a restorer of class `pipeline` was saved with: form, timestep, pattern_tokens (0 where it is not said),
    model, format_version, shared_vae, and, where it has them, alpha_bar, pos_pad and neg_pad.

    Raises WeightsError where model_index.json names another class, or anything else to be loaded.
    """
    path = folder / INDEX_FILE
    index = {key: value for key, value in read_config(path).items() if not key.startswith("_") or key == "_class_name"}
    if index.pop("_class_name", None) != pipeline:
        raise WeightsError(f"{path} is not that of a {pipeline}; pass the folder of another restorer.")
    vaes = ([None, None], *(["diffusers", kind.__name__] for kind in (AutoencoderKL, AutoencoderDC)))
    if index.pop("unet", None) != ["diffusers", UNet2DConditionModel.__name__] or index.pop("vae", None) not in vaes:
        raise WeightsError(f"{path} names other parts than diffusers' UNet and autoencoders; it is not loaded.")
    index.setdefault("pattern_tokens", 0)
    own = {name: index.pop(name) for name in OPTIONAL_SETTINGS if name in index}
    _check_own(own, path)
    whole = ("timestep", "pattern_tokens", "format_version")
    kinds = {"form": str, "model": str, "shared_vae": str | None, **dict.fromkeys(whole, int)}
    for key in sorted(index.keys() | kinds.keys()):
        if key not in kinds or key not in index or not isinstance(index[key], kinds[key]):
            raise WeightsError(f"{path} has no proper {key[:60]!r}; expected exactly {', '.join(kinds)}.")
    shared = index["shared_vae"]
    if shared is not None and not re.fullmatch(r"\.\./\w[\w-]*", shared):
        raise WeightsError(f"{path} has shared_vae {shared[:60]!r}; expected ../NAME, a folder beside this one.")
    return {**index, **own}


def own_offsets(folder: Path) -> dict[str, Offset]:
    """PadCFG's offsets of a restorer's folder as `RestoreSettings.resolved` takes them: its own, or else the paper's.

    Nothing is checked here: what is no offset is refused when the settings or the weights are.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return {"pos_pad": index.get("pos_pad") or POS_PAD, "neg_pad": index.get("neg_pad") or NEG_PAD}


def _check_own(settings: dict[str, Any], path: Path) -> None:
    """Raise WeightsError for settings of one's own that are none."""
    alpha_bar = settings.get("alpha_bar", 0.5)
    if not isinstance(alpha_bar, float) or not 0 < alpha_bar <= 1:
        raise WeightsError(f"{path} has no proper alpha_bar; expected a number above 0, and at most 1.")
    for name in ("pos_pad", "neg_pad"):
        offset = settings.get(name, [0, 0])
        whole = isinstance(offset, list) and len(offset) == 2 and all(type(side) is int for side in offset)
        if not whole or not all(0 <= side < PATCH for side in offset):
            raise WeightsError(f"{path} has no proper {name}; expected two whole numbers from 0 to {PATCH - 1}.")


def check_listed(folder: Path) -> None:
    """Raise WeightsError where a folder's files are not those of its family's list of hashes; bundled ones need one."""
    check_sums(folder, required=folder.resolve().is_relative_to(BUNDLED.resolve()))

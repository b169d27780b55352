"""How far an imported one-step system is from its original code, on tiny random weights.

    python -m benchmarks.parity --code FOLDER

FOLDER is a clone of cswry/OSEDiff, csslc/PiSA-SR or XPixelGroup/HYPIR; which one is found by its files. The original
code builds adapters for a narrow Stable Diffusion 2.1, gets random weights, saves them as it does, loads them and
restores a picture, on the CPU in float32. The same file is imported here. The largest difference of the two pictures,
in [-1, 1], is printed; the exit code is 1 above 1e-4.

What is changed in the original: it is kept on the CPU; its random sample of the latent is the mode; names of modules
and classes that diffusers has moved are led to today's, and its scheduler finds the timestep before 999 as it did when
the code was published (diffusers 0.25; newer ones fail there). Where a copy of diffusers' networks cannot be imported,
diffusers' own class stands in, which is said.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import gendrpix.specs
from gendrpix.cli.importer import find_system, merged_pipeline
from tests.helpers.sources import NARROW_VAE4, randomize, save_base

TOLERANCE = 1e-4
RANK, OTHER_RANK = 4, 2
HYPIR_LAYERS = "to_k,to_q,to_v,to_out.0,conv,conv1,conv2,conv_shortcut,conv_out,proj_in,proj_out,ff.net.2,ff.net.0.proj"
Original = Callable[[Path, Path, Tensor], Tensor]
"""(base, file to write the published weights to, picture in [-1, 1]) => the original's picture in [-1, 1]."""


class OnTheCpu(TorchFunctionMode):
    """Reads the device "cuda" as "cpu"."""

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        def led(value: Any) -> Any:
            return "cpu" if isinstance(value, str) and value == "cuda" else value

        kwargs = {key: led(value) for key, value in (kwargs or {}).items()}
        return function(*map(led, args), **kwargs)


def earlier_timestep(scheduler: Any, timestep: Any) -> Any:
    """As in diffusers 0.25: one stride of the schedule back."""
    return timestep - scheduler.config.num_train_timesteps // (scheduler.num_inference_steps or 1000)


@contextmanager
def original_code(folder: Path) -> Iterator[None]:
    """Within, the original's modules can be imported and run here."""
    unets = importlib.import_module("diffusers.models.unets.unet_2d_blocks")
    sys.modules.setdefault("diffusers.models.unet_2d_blocks", unets)
    embeddings: Any = importlib.import_module("diffusers.models.embeddings")
    if not hasattr(embeddings, "PositionNet"):
        embeddings.PositionNet = embeddings.GLIGENTextBoundingboxProjection
    loaders: Any = importlib.import_module("diffusers.loaders")
    peft = loaders.PeftAdapterMixin  # older diffusers gave it to every model
    unet_loader = type("UNet2DConditionLoadersMixin", (loaders.UNet2DConditionLoadersMixin, peft), {})
    loaders.UNet2DConditionLoadersMixin = unet_loader
    loaders.FromOriginalVAEMixin = type("FromOriginalVAEMixin", (loaders.FromOriginalModelMixin, peft), {})
    to = nn.Module.to

    def to_cpu(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        kwargs = {key: "cpu" if value == "cuda" else value for key, value in kwargs.items()}
        return to(module, *("cpu" if isinstance(one, str) and one == "cuda" else one for one in args), **kwargs)

    sys.path.insert(0, str(folder))
    with (
        OnTheCpu(),
        mock.patch.object(nn.Module, "to", to_cpu),
        mock.patch.object(nn.Module, "cuda", lambda module, *_: module),
        mock.patch.object(Tensor, "cuda", lambda tensor, *_: tensor),
        mock.patch.object(torch.cuda, "synchronize", lambda *_: None),
        mock.patch.object(diffusers.DDPMScheduler, "previous_timestep", earlier_timestep),
        mock.patch.object(DiagonalGaussianDistribution, "sample", lambda self, *_: self.mode()),
    ):
        yield
    sys.path.remove(str(folder))


def networks(*modules: str) -> None:
    """Import the original's copies of diffusers' networks, or put diffusers' own classes in their place."""
    for name in modules:
        kind = "AutoencoderKL" if name.endswith("autoencoder_kl") else "UNet2DConditionModel"
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(
                f"{name} cannot be imported with diffusers {diffusers.__version__} ({error}); diffusers' own is used."
            )
            stand_in = types.ModuleType(name)
            setattr(stand_in, kind, getattr(diffusers, kind))
            sys.modules[name] = stand_in


def options(base: Path, **more: Any) -> types.SimpleNamespace:
    tiles = {"vae_encoder_tiled_size": 1024, "vae_decoder_tiled_size": 224, "latent_tiled_size": 96}
    names = {"pretrained_model_name_or_path": str(base), "pretrained_model_path": str(base)}
    return types.SimpleNamespace(**tiles, **names, latent_tiled_overlap=32, mixed_precision="fp32", **more)


def run_osediff(base: Path, file: Path, pixels: Tensor) -> Tensor:
    networks("models.autoencoder_kl", "models.unet_2d_condition")
    code: Any = importlib.import_module("osediff")
    trained = code.OSEDiff_gen(options(base, lora_rank=RANK))
    for part in (trained.unet, trained.vae):
        randomize(part, adapters=True)
    trained.unet.conv_in.base_layer.weight.data.mul_(0.9)
    trained.save_model(str(file))
    model = code.OSEDiff_test(options(base, osediff_path=str(file), merge_and_unload_lora=False))
    result: Tensor = model(pixels, "")
    return result


def run_pisa(base: Path, file: Path, pixels: Tensor) -> Tensor:
    networks("src.models.autoencoder_kl", "src.models.unet_2d_condition")
    code: Any = importlib.import_module("pisasr")
    ranks = {"lora_rank_unet_pix": RANK, "lora_rank_unet_sem": OTHER_RANK}
    trained = code.PiSASR(options(base, resume_ckpt=None, timesteps1=1, **ranks))
    randomize(trained.unet, adapters=True)
    trained.save_model(str(file))
    model = code.PiSASR_eval(options(base, pretrained_path=str(file), default=True, lambda_pix=1.0, lambda_sem=1.0))
    model.set_eval()
    _, result = model(True, pixels, prompt="")
    return result


def run_hypir(base: Path, file: Path, pixels: Tensor) -> Tensor:
    from peft import LoraConfig

    code: Any = importlib.import_module("HYPIR.enhancer.sd2")
    modules = HYPIR_LAYERS.split(",")
    trained = diffusers.UNet2DConditionModel.from_pretrained(base, subfolder="unet")  # as HYPIR's trainer makes it
    trained.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=modules))
    randomize(trained, adapters=True)
    torch.save({name: value for name, value in trained.state_dict().items() if "lora" in name}, file)
    model = code.SD2Enhancer(str(base), str(file), modules, RANK, 200, 200, "cpu")
    model.weight_dtype = torch.float32
    model.init_models()
    model.prepare_inputs(batch_size=1, prompt="")
    latent = model.vae.encode(pixels).latent_dist.sample()
    result: Tensor = model.vae.decode(model.forward_generator(latent)).sample
    return result.clamp(-1, 1)


ORIGINALS: dict[str, tuple[str, Original]] = {
    "osediff": ("osediff.py", run_osediff),
    "pisa-sr": ("pisasr.py", run_pisa),
    "hypir": ("HYPIR/enhancer/sd2.py", run_hypir),
}
"""Name of a system => the file by which its code is known, and how the original runs."""


def measure(code: Path) -> tuple[str, float]:
    """The system that the code is of, and the largest difference. Raises ValueError for other code."""
    name = next((name for name, (file, _) in ORIGINALS.items() if (code / file).is_file()), None)
    if name is None:
        raise ValueError(f"{code} holds none of {', '.join(file for file, _ in ORIGINALS.values())}; pass a clone.")
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 64, 48) * 2 - 1
    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch.object(gendrpix.specs, "MODEL_SPECS", {"sd21-vae4": NARROW_VAE4}),
    ):
        base, file = save_base(Path(place) / "base"), Path(place) / "published.pkl"
        with original_code(code.resolve()), torch.no_grad():
            theirs = ORIGINALS[name][1](base, file, pixels)
        ours = merged_pipeline(find_system(name), str(base), file, "").restore(pixels)
    return name, float((ours - theirs).abs().max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, required=True)
    name, difference = measure(parser.parse_args().code)
    print(f"{name}: the largest difference is {difference:.2e}; at most {TOLERANCE:g} is allowed.")
    return int(difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

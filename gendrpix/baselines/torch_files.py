"""Networks in PyTorch's files (.safetensors, .pth), and Real-ESRGAN's in ncnn's files, run by PyTorch with spandrel.

spandrel (MIT) knows the architecture from the names and shapes of the weights. The package is optional:
`requirements-peers.txt`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gendrpix.baselines.ncnn_files import Layer, read_layers

SUFFIXES = (".safetensors", ".pth")
WRAPPERS = ("params_ema", "params", "state_dict", "model")
"""Keys under which files keep the weights; the first one found counts."""


class TorchNetwork:
    """A network that spandrel knows, RGB in, RGB out.

    scale: how many times it enlarges; architecture: spandrel's name for it.
    """

    def __init__(self, state: Mapping[str, Tensor], name: str, device: torch.device, dtype: torch.dtype) -> None:
        """Build it from its weights. Raises ValueError where they fit no architecture, or spandrel is missing."""
        try:
            spandrel: Any = importlib.import_module("spandrel")
        except ImportError as error:
            raise ValueError(
                f'{name} needs the package spandrel; install it with pip install "spandrel>=0.4".'
            ) from error
        try:
            found = spandrel.ModelLoader().load_from_state_dict(dict(state))
        except Exception as error:
            raise ValueError(
                f"{name} fits no architecture that spandrel knows ({type(error).__name__}); "
                "expected the weights of an image restoration network."
            ) from error
        if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (
            3,
            3,
        ):
            raise ValueError(f"{name} is no network from one RGB picture to one; expected a restoration network.")
        self.scale: int = found.scale
        self.architecture: str = found.architecture.name
        self._network, self._device, self._dtype = found.to(device, dtype).eval(), device, dtype

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] => (B, 3, s H, s W) float32 in [-1, 1], clamped; s is `scale`."""
        result: Tensor = self._network((pixels.to(self._device, self._dtype) + 1) / 2)
        return (result.float() * 2 - 1).clamp(-1, 1)


def open_torch_network(
    file: Path, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> TorchNetwork:
    """The network of a .safetensors, .pth or ncnn .param file. Raises ValueError in a sentence where it cannot be."""
    state = state_of_layers(read_layers(file), file.name) if file.suffix == ".param" else read_state(file)
    return TorchNetwork(state, file.name, device or torch.device("cpu"), dtype)


def read_state(file: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors or .pth file; of the latter nothing but numbers is read."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file.name} is no file of weights that can be read; expected {' or '.join(SUFFIXES)}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read ({error}).") from error
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise ValueError(
            f"{file.name} is damaged or holds more than numbers ({type(error).__name__}) and is not loaded; "
            "pass a .safetensors file."
        ) from error
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{file.name} holds no table of weights; expected the weights of a network.")
    return dict(found)


def state_of_layers(layers: Sequence[Layer], name: str) -> dict[str, Tensor]:
    """The weights of Real-ESRGAN's two networks, RRDBNet and Compact, by the names that Real-ESRGAN gives them.

    ncnn's files keep the layers in the order in which they run, which is that of the network's own modules. Raises
    ValueError where the count of layers fits neither.
    """
    convolutions = [layer for layer in layers if layer.kind == "Convolution"]
    blocks, left = divmod(len(convolutions) - 6, 15)
    if len(layers) == len(convolutions) and blocks > 0 and not left:
        inner = [f"body.{b}.rdb{r}.conv{c}" for b in range(blocks) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
        names = ["conv_first", *inner, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    elif len(layers) == 2 * len(convolutions) - 1:
        names = [f"body.{number}" for number in range(len(layers))]
    else:
        raise ValueError(
            f"{name} has {len(convolutions)} convolutions and {len(layers) - len(convolutions)} PReLUs; expected "
            "Real-ESRGAN's RRDBNet or Compact. Other networks of ncnn's files run by ncnn alone."
        )
    state: dict[str, Tensor] = {}
    for key, layer in zip(names, layers, strict=True):
        state[f"{key}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"{key}.bias"] = layer.bias
    return state

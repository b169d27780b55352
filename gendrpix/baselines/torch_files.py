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
from gendrpix.baselines.restorer import TILE_PX
from gendrpix.weights.verify import WeightsError, read_shapes

MAX_FILE_BYTES = 8_000_000_000
MAX_TENSORS = 20_000
"""Most tensors in a file, and the largest number in a name."""
SUFFIXES = (".safetensors", ".pth")
WRAPPERS = ("params_ema", "params", "state_dict", "model")
"""Keys under which files keep the weights; the first one found counts."""


class TorchNetwork:
    """A network that spandrel knows, RGB in, RGB out.

    scale: how many times it enlarges; architecture: spandrel's name for it. Tiles are used where spandrel says that
    the network takes them well.
    """

    licence = ""

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
        self.tile_px = TILE_PX if found.tiling == spandrel.ModelTiling.SUPPORTED else None
        if dtype == torch.float16 and not found.supports_half:
            dtype = torch.float32
        self._network, self.device, self.dtype = found.to(device, dtype).eval(), device, dtype
        self.resident_bytes = sum(one.numel() * one.element_size() for one in found.model.state_dict().values())

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] => (B, 3, s H, s W) float32 in [-1, 1], clamped; s is `scale`."""
        result: Tensor = self._network((pixels.to(self.device, self.dtype) + 1) / 2)
        return (result.float() * 2 - 1).clamp(-1, 1)


def open_network(file: Path, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> TorchNetwork:
    """The network of a .safetensors, .pth or ncnn .param file. Raises ValueError in a sentence where it cannot be."""
    state = state_of_layers(read_layers(file), file.name) if file.suffix == ".param" else read_state(file)
    return TorchNetwork(state, file.name, device or torch.device("cpu"), dtype)


def read_state(file: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors or .pth file; of the latter nothing but numbers is read."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file.name} is no file of weights that can be read; expected {' or '.join(SUFFIXES)}.")
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file} is missing or larger than {MAX_FILE_BYTES:,} bytes; pass a file of weights.")
    try:
        if file.suffix == ".safetensors":
            read_shapes(file)
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
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
    check_names_and_sizes(file, found)
    return dict(found)


def check_names_and_sizes(file: Path, state: Mapping[Any, Tensor]) -> None:
    """Raise ValueError for a table from which a network out of all proportion to its file would be built.

    spandrel derives the count of layers from the numbers in the names, and widths from the shapes; a tensor in a .pth
    file may announce more numbers than the file has.
    """
    numbers = [int(part[:9]) for name in state for part in str(name).split(".") if part.isdecimal()]
    if len(state) > MAX_TENSORS or max(numbers, default=0) > MAX_TENSORS or not all(isinstance(n, str) for n in state):
        raise ValueError(f"{file.name} has names of weights that no network has; it is not loaded.")
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > 2 * file.stat().st_size:
        raise ValueError(f"{file.name} announces {total:,} bytes of weights and is smaller; it is not loaded.")


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

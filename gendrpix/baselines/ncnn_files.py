"""Networks in ncnn's files, MODEL.param with MODEL.bin beside it: run by ncnn, or read as weights for PyTorch.

The format is the one that desktop programs such as Upscayl bring. ncnn checks little of what it reads, so the text is
checked here first: its form, and that no number in it asks for more memory than the files and the picture justify. The
package ncnn (BSD-3) is optional: `requirements-peers.txt`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gendrpix.baselines.restorer import TILE_PX, check_scale

SUFFIXES = (".param",)
MAGIC = "7767517"
MAX_TEXT_BYTES = 10_000_000
MAX_WEIGHT_BYTES = 4_000_000_000
MAX_LAYERS = 20_000
MAX_NUMBER = 65_536
"""Largest number in a layer's settings, but for counts of weights, which the file of weights bounds."""
MAX_FACTOR = 16.0
"""Largest factor by which an Interp layer may enlarge."""
PROBE_PX = 16
"""Side of the grey picture with which a network is tried when it is loaded."""
HALF_PRECISION = 0x01306B47
"""Tag before a layer's weights in MODEL.bin that are stored as float16."""
SINGLE_PRECISION = 0
"""Tag before weights that are stored as float32."""


class NcnnNetwork:
    """A network from ncnn's files with one input, RGB in [0, 1], and one output like it.

    Runs on the CPU with as many threads as torch. `scale` is found by running it on a small grey picture.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    architecture = "ncnn"
    licence = ""
    tile_px: int | None = TILE_PX

    def __init__(self, param: Path) -> None:
        """Load it. Raises ValueError for missing or broken files, and where the package is missing."""
        weights = weights_beside(param)
        check_text(param, weights.stat().st_size)
        try:
            self._ncnn: Any = importlib.import_module("ncnn")
        except ImportError as error:
            raise ValueError(f"{param.name} needs the package ncnn; install it with pip install ncnn.") from error
        self._network: Any = self._ncnn.Net()
        self._network.opt.num_threads = torch.get_num_threads()
        if self._network.load_param(str(param)) or self._network.load_model(str(weights)):
            raise ValueError(
                f"ncnn cannot read {param.name} and {weights.name}; expected a network as it was released."
            )
        inputs, outputs = self._network.input_names(), self._network.output_names()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"{param.name} has {len(inputs)} inputs and {len(outputs)} outputs; expected one picture in, one out."
            )
        self._input, self._output = inputs[0], outputs[0]
        self.resident_bytes = weights.stat().st_size
        made = self(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
        self.scale = check_scale(param.name, (PROBE_PX, PROBE_PX), tuple(made.shape))

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `gendrpix.baselines.restorer.Network`."""
        planes = np.ascontiguousarray((pixels[0].float().cpu().numpy() + 1) / 2)  # (3, H, W) in [0, 1]
        extractor = self._network.create_extractor()
        status = extractor.input(self._input, self._ncnn.Mat(planes))
        code, found = extractor.extract(self._output) if status == 0 else (status, None)
        if code:
            raise ValueError(f"ncnn could not run on {pixels.shape[-1]} x {pixels.shape[-2]} pixels (code {code}).")
        return (torch.from_numpy(np.array(found))[None] * 2 - 1).clamp(-1, 1)


def open_network(file: Path, device: torch.device, dtype: torch.dtype) -> NcnnNetwork:
    """The network of MODEL.param, on the CPU in float32 whatever is asked. Raises ValueError in a sentence."""
    return NcnnNetwork(file)


def check_text(param: Path, num_bytes: int) -> None:
    """Raise ValueError unless MODEL.param is text of ncnn's form with numbers that fit `num_bytes` of weights."""
    if param.stat().st_size > MAX_TEXT_BYTES or num_bytes > MAX_WEIGHT_BYTES:
        raise ValueError(
            f"{param.name} or its weights are too large; the limits are {MAX_TEXT_BYTES:,} and "
            f"{MAX_WEIGHT_BYTES:,} bytes."
        )
    try:
        lines = [line.split() for line in param.read_text(encoding="ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{param.name} is no text; expected ncnn's MODEL.param, not its binary form.") from error
    counts = lines[1] if len(lines) > 1 else []
    if lines[:1] != [[MAGIC]] or len(counts) != 2 or not all(word.isdigit() for word in counts):
        raise ValueError(f"{param.name} does not begin as ncnn's files do; ncnn cannot read {param.name}.")
    if int(counts[0]) != len(lines) - 2 or int(counts[0]) > MAX_LAYERS or int(counts[1]) > 2 * MAX_LAYERS:
        raise ValueError(f"{param.name} announces {counts[0][:20]} layers and has {len(lines) - 2}; it is cut short.")
    for words in lines[2:]:
        _check_layer(param.name, words, num_bytes)


def _check_layer(name: str, words: list[str], num_bytes: int) -> None:
    """Raise ValueError for a layer that is malformed, or would allocate more than its weights explain."""
    if len(words) < 4 or not (words[2].isdigit() and words[3].isdigit()) or max(map(len, words)) > 200:
        raise ValueError(f"{name} has a line that is no layer: {' '.join(words)[:60]!r}; get the file again.")
    kind, product = words[0], 1
    for word in words[4 + min(int(words[2]) + int(words[3]), len(words)) :]:
        key, equals, values = word.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not equals or not key.lstrip("-").isdigit() or not numbers:
            raise ValueError(f"{name} has the setting {word[:40]!r} in a layer {kind[:40]}; expected NUMBER=NUMBERS.")
        largest = max(abs(number) for number in numbers)
        if kind == "MemoryData":
            product *= max(1, int(largest))
        bound = MAX_FACTOR if kind == "Interp" and key in ("1", "2") else max(MAX_NUMBER, num_bytes)
        if kind in _SPATIAL and kind != "Interp":
            bound = MAX_NUMBER
        if not largest <= bound or product > max(MAX_NUMBER, num_bytes):
            raise ValueError(
                f"{name} asks in a layer {kind[:40]} for {word[:40]!r}, more than its weights or a picture explain; "
                "it is not loaded."
            )


_SPATIAL = {"Interp", "Padding", "Reshape", "Crop", "Tile", "PixelShuffle", "Pooling"}
"""Layers whose numbers are sizes or factors, not counts of weights."""


class Layer(NamedTuple):
    """One convolution of the network, or one PReLU, in the order in which it runs."""

    kind: str
    """"Convolution" or "PReLU"."""
    weight: Tensor
    """float32: (outputs, inputs, side, side), or (channels,) of a PReLU."""
    bias: Tensor | None
    """float32 (outputs,); None for a PReLU."""


def read_layers(param: Path) -> list[Layer]:
    """The weights of a network of plain convolutions and PReLUs, in order.

    Raises ValueError for missing files, for layers with weights of another kind, and for files of another length.
    """
    weights = weights_beside(param)
    data = weights.read_bytes()
    found, at = [], 0
    for words in (line.split() for line in param.read_text(encoding="utf-8").splitlines()[2:] if line.strip()):
        kind, values = words[0], _values(words)
        if kind == "Convolution":
            layer, at = _convolution(values, data, at)
        elif kind == "PReLU":
            slopes, at = _numbers(data, at, values[0], SINGLE_PRECISION)
            layer = Layer(kind, slopes, None)
        elif kind in _WITHOUT_WEIGHTS:
            if kind == "Interp" and any(factor < 1 for factor in _factors(words)):
                raise ValueError(f"{param.name} reduces its result, which ncnn alone can run.")
            continue
        else:
            raise ValueError(f"{param.name} has a layer {kind}; only networks of plain convolutions can be read.")
        found.append(layer)
    if at != len(data):
        raise ValueError(f"{weights.name} has {len(data)} bytes and its network {at}; expected files of one network.")
    return found


_WITHOUT_WEIGHTS = {"Input", "Split", "ReLU", "Concat", "BinaryOp", "Eltwise", "Interp", "PixelShuffle", "Crop"}


def _values(words: list[str]) -> Mapping[int, int]:
    """The whole numbers among a layer's settings, "0=64" => {0: 64}."""
    pairs = (word.split("=") for word in words if "=" in word)
    return {int(key): int(value) for key, value in pairs if key.isdigit() and value.lstrip("-").isdigit()}


def _factors(words: list[str]) -> list[float]:
    """The two factors of an Interp layer: settings 1 and 2."""
    return [float(word[2:]) for word in words[4:] if word.startswith(("1=", "2="))]


def _convolution(values: Mapping[int, int], data: bytes, at: int) -> tuple[Layer, int]:
    outputs, side, count = values[0], values[1], values[6]
    inputs = count // (outputs * side * side)
    tag = int.from_bytes(data[at : at + 4], "little")
    weight, at = _numbers(data, at + 4, count, tag)
    bias = torch.zeros(outputs)
    if values.get(5):
        bias, at = _numbers(data, at, outputs, SINGLE_PRECISION)
    return Layer("Convolution", weight.view(outputs, inputs, side, side), bias), at


def _numbers(data: bytes, at: int, count: int, tag: int) -> tuple[Tensor, int]:
    """`count` numbers as float32, and where what follows begins; float16 is padded to a multiple of 4 bytes."""
    if tag not in (HALF_PRECISION, SINGLE_PRECISION):
        raise ValueError(f"The weights have the storage tag {tag:#x}; expected float16 or float32 weights.")
    kind = np.dtype("<f2" if tag == HALF_PRECISION else "<f4")
    if at + count * kind.itemsize > len(data):
        raise ValueError("The file of weights ends too early; expected files of one network.")
    values = np.frombuffer(data, kind, count, at).astype(np.float32)
    return torch.from_numpy(values), at + -(-count * kind.itemsize // 4) * 4


def weights_beside(param: Path) -> Path:
    """MODEL.bin beside MODEL.param. Raises ValueError where one of the two is missing."""
    weights = param.with_suffix(".bin")
    for file in (param, weights):
        if not file.is_file():
            raise ValueError(f"{file} is missing; a network of ncnn is MODEL.param with MODEL.bin beside it.")
    return weights

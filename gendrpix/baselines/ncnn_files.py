"""Networks in ncnn's files, MODEL.param with MODEL.bin beside it: run by ncnn, or read as weights for PyTorch.

The format is the one that desktop programs such as Upscayl bring. The package ncnn (BSD-3) is optional:
`requirements-peers.txt`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

HALF_PRECISION = 0x01306B47
"""Tag before a layer's weights in MODEL.bin that are stored as float16."""
SINGLE_PRECISION = 0
"""Tag before weights that are stored as float32."""


class NcnnNetwork:
    """A network from ncnn's files with one input, RGB in [0, 1], and one output like it.

    Runs on the CPU with as many threads as torch, the whole picture at once.
    """

    def __init__(self, param: Path) -> None:
        """Load it. Raises ValueError for missing or broken files, and where the package is missing."""
        weights = weights_beside(param)
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

    def __call__(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) float in [-1, 1] => (1, 3, s H, s W) float32 in [-1, 1], clamped; s is the network's own."""
        planes = np.ascontiguousarray((pixels[0].float().cpu().numpy() + 1) / 2)  # (3, H, W) in [0, 1]
        extractor = self._network.create_extractor()
        status = extractor.input(self._input, self._ncnn.Mat(planes))
        code, found = extractor.extract(self._output) if status == 0 else (status, None)
        if code:
            raise ValueError(f"ncnn could not run on {pixels.shape[-1]} x {pixels.shape[-2]} pixels (code {code}).")
        return (torch.from_numpy(np.array(found))[None] * 2 - 1).clamp(-1, 1)


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

"""A network in ncnn's format, written layer by layer: names, weights, and the copies that ncnn asks for.

ncnn's own converter fixes the sizes that the windows of attention depend on. Here they are expressions, which ncnn
evaluates for each picture (`Reshape`, `Crop`: 2025 and later).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

MAGIC = 7767517
"""First line of a parameter file."""
HALF_TAG, FLOAT_TAG = 0x01306B47.to_bytes(4, "little"), bytes(4)
"""What stands before a convolution's weights in the file."""
MAX_EXPRESSION = 240
"""Characters that ncnn reads of an expression."""
BINARY = {"add": 0, "sub": 1, "mul": 2, "div": 3, "max": 4, "min": 5}
UNARY = {"floor": 2, "log": 8}
Value = int | float | str


@dataclass
class Layer:
    """One line of the parameter file."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, Value]


@dataclass
class NcnnNetwork:
    """Layers and weights in the order in which they run; methods add one and give the name of what it makes.

    Blobs are (C, H, W) or (C, D, H, W), without a batch.
    """

    layers: list[Layer] = field(default_factory=list)
    weights: list[bytes] = field(default_factory=list)

    def add(self, kind: str, inputs: Sequence[str], settings: dict[int, Value], *, to: str | None = None) -> str:
        """One layer with one result, called `to` or by a number."""
        for value in settings.values():
            assert not isinstance(value, str) or len(value) <= MAX_EXPRESSION, value
        name = to or f"b{len(self.layers)}"
        self.layers.append(Layer(kind, list(inputs), [name], settings))
        return name

    # Layers with weights -------------------------------------------------------------------------------------------

    def conv(self, x: str, conv: nn.Conv2d) -> str:
        """A convolution, depthwise where its groups are."""
        assert not isinstance(conv.padding, str)
        (high, wide), (pad_high, pad_wide) = conv.kernel_size, conv.padding
        settings: dict[int, Value] = {
            0: conv.out_channels,
            1: wide,
            11: high,
            3: conv.stride[1],
            13: conv.stride[0],
            4: pad_wide,
            14: pad_high,
            5: int(conv.bias is not None),
            6: conv.weight.numel(),
        }
        if conv.groups > 1:
            settings[7] = conv.groups
        self._keep(conv.weight, tagged=True)
        if conv.bias is not None:
            self._keep(conv.bias)
        return self.add("ConvolutionDepthWise" if conv.groups > 1 else "Convolution", [x], settings)

    def linear(self, x: str, linear: nn.Linear) -> str:
        """A linear layer over the channels of (C, H, W), as a convolution of 1 x 1."""
        settings: dict[int, Value] = {
            0: linear.out_features,
            1: 1,
            5: int(linear.bias is not None),
            6: linear.weight.numel(),
        }
        self._keep(linear.weight, tagged=True)
        if linear.bias is not None:
            self._keep(linear.bias)
        return self.add("Convolution", [x], settings)

    def group_norm(self, x: str, norm: nn.GroupNorm) -> str:
        """Group normalisation."""
        self._keep(norm.weight)
        self._keep(norm.bias)
        return self.add("GroupNorm", [x], {0: norm.num_groups, 1: norm.num_channels, 2: norm.eps, 3: 1})

    def layer_norm(self, x: str, norm: nn.LayerNorm) -> str:
        """Normalisation over the channels of (C, H, W)."""
        channels = norm.normalized_shape[0]
        last = self.add("Permute", [x], {0: 3})  # (H, W, C)
        self._keep(norm.weight)
        self._keep(norm.bias)
        normed = self.add("LayerNorm", [last], {0: channels, 1: norm.eps, 2: 1})
        return self.add("Permute", [normed], {0: 4})

    def constant(self, values: Tensor) -> str:
        """A tensor of one to three axes."""
        self._keep(values)
        settings: dict[int, Value] = dict(zip((0, 1, 2), reversed(values.shape), strict=False))
        return self.add("MemoryData", [], settings)

    def _keep(self, values: Tensor, *, tagged: bool = False) -> None:
        """Store numbers; convolutions' weights have a tag before them, and take half the space where that is exact."""
        numbers = values.detach().float().contiguous().flatten()
        halves = numbers.half()
        if tagged and torch.equal(halves.float(), numbers):
            content = halves.numpy().astype("<f2").tobytes()
            self.weights.append(HALF_TAG + content + bytes(-len(content) % 4))
            return
        self.weights.append((FLOAT_TAG if tagged else b"") + numbers.numpy().astype("<f4").tobytes())

    # Arithmetic ----------------------------------------------------------------------------------------------------

    def binary(self, word: str, a: str, b: str | float) -> str:
        """`a` and `b` by the operation of that name; a blob's axes of one position are repeated."""
        if isinstance(b, str):
            return self.add("BinaryOp", [a, b], {0: BINARY[word]})
        return self.add("BinaryOp", [a], {0: BINARY[word], 1: 1, 2: float(b)})

    def unary(self, word: str, x: str) -> str:
        """A function of every number."""
        return self.add("UnaryOp", [x], {0: UNARY[word]})

    def floor_divide(self, a: str, b: str) -> str:
        """Whole quotients of whole numbers; the half keeps rounding from deciding where they divide exactly."""
        return self.unary("floor", self.binary("div", self.binary("add", a, 0.5), b))

    def concat(self, blobs: Sequence[str], axis: int = 0) -> str:
        """Joined along an axis, 0 for the channels."""
        return self.add("Concat", blobs, {0: axis})

    def softmax(self, x: str, axis: int) -> str:
        """Along an axis, 0 for the channels."""
        return self.add("Softmax", [x], {0: axis, 1: 1})

    def slices(self, x: str, sizes: Sequence[int], axis: int = 0) -> list[str]:
        """Parts of these sizes along an axis, -1 for the rest."""
        names = [f"b{len(self.layers)}_{number}" for number in range(len(sizes))]
        listed = ",".join(str(-233 if size < 0 else size) for size in sizes)
        self.layers.append(Layer("Slice", [x], names, {-23300: f"{len(sizes)},{listed}", 1: axis}))
        return names

    # Shapes --------------------------------------------------------------------------------------------------------

    def reshape(self, x: str, shape: str, others: Sequence[str] = ()) -> str:
        """The same numbers in another shape: W, H, (D,) C as expressions; 0w is x's width, 1w that of others[0]."""
        return self.add("Reshape", [x, *others], {6: f'"{shape}"'})

    def crop(self, x: str, starts: str, ends: str, axes: str, others: Sequence[str] = ()) -> str:
        """A part from `starts` to before `ends` along `axes` (0 is the first of C, H, W), as expressions."""
        return self.add("Crop", [x, *others], {19: f'"{starts}"', 20: f'"{ends}"', 21: f'"{axes}"'})

    # Files ---------------------------------------------------------------------------------------------------------

    def param_text(self) -> str:
        """The parameter file; a blob that several layers read is copied for each, as ncnn wants it."""
        layers = _with_copies(self.layers)
        blobs = sum(len(layer.outputs) for layer in layers)
        lines = [str(MAGIC), f"{len(layers)} {blobs}"]
        for number, layer in enumerate(layers):
            settings = " ".join(f"{key}={_written(value)}" for key, value in layer.settings.items())
            counts = f"{len(layer.inputs)} {len(layer.outputs)}"
            names = " ".join((*layer.inputs, *layer.outputs))
            lines.append(f"{layer.kind} {layer.kind.lower()}_{number} {counts} {names} {settings}".rstrip())
        return "\n".join(lines) + "\n"

    def weight_bytes(self) -> bytes:
        """The weights' file."""
        return b"".join(self.weights)


def _with_copies(layers: Sequence[Layer]) -> list[Layer]:
    """The same layers, with a `Split` behind each blob that is read more than once."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    taken: Counter[str] = Counter()
    result = []
    for layer in layers:
        inputs = []
        for name in layer.inputs:
            inputs.append(f"{name}_s{taken[name]}" if readers[name] > 1 else name)
            taken[name] += 1
        result.append(Layer(layer.kind, inputs, layer.outputs, layer.settings))
        for name in layer.outputs:
            if readers[name] > 1:
                copies = [f"{name}_s{number}" for number in range(readers[name])]
                result.append(Layer("Split", [name], copies, {}))
    return result


def _written(value: Value) -> str:
    """A setting as ncnn reads it; numbers with a point or an exponent are floats."""
    return f"{value:.9e}" if isinstance(value, float) else str(value)

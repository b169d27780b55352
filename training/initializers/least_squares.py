"""Closed-form weights for the ends of a UNet, by ridge regression: a start for an end that a stage replaces, and a
finish that takes out of a trained one what the last noisy steps left, above all a pattern of 8 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 4096
"""Rows that are held in float64 at once."""


def place_of_sums(device: torch.device) -> torch.device:
    """Where float64 sums over a device's tensors are kept: there, or on the CPU where it has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left^T right`, in place.

    `left` (N, A) and `right` (N, B) are float32 rows; `total` (A, B) is float64 and lies at `place_of_sums`. Computed
    in float64, ROWS rows at a time. On a device without float64 each such part is multiplied in float32 there, and
    the parts are added in float64 on the CPU.
    """
    for some, others in zip(left.split(ROWS), right.split(ROWS), strict=True):
        if some.device == total.device:
            total += some.double().T @ others.double()
        else:
            total += (some.T @ others).to(total.device).double()


class ConvRegression:
    """The least-squares weights of a 3 x 3 convolution, from inputs and wanted outputs seen batch by batch.

    Minimises `|conv(x) - y|^2` plus `ridge` times the square of each weight's distance from where it stands, scaled by
    its input's energy: one linear system whose size does not depend on the number of pictures. The sums are kept in
    float64 on the convolution's device (`place_of_sums`).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.bias is None:
            raise ValueError("Only a 3 x 3 convolution with padding 1 and a bias can be fitted.")
        self.conv = conv
        size = conv.in_channels * 9 + 1
        self._place = place_of_sums(conv.weight.device)
        self._inputs = torch.zeros(size, size, dtype=torch.float64, device=self._place)
        self._outputs = torch.zeros(size, conv.out_channels, dtype=torch.float64, device=self._place)
        self._squares = torch.zeros(conv.out_channels, dtype=torch.float64, device=self._place)
        self._seen = 0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """Count in a batch: inputs (B, C, h, w), wanted outputs (B, K, h, w)."""
        together = max(1, ROWS // inputs.shape[-2:].numel())
        parts = zip(inputs.float().split(together), wanted.float().split(together), strict=True)
        for some, outputs in parts:
            rows = F.unfold(some, 3, padding=1).movedim(1, -1).flatten(0, -2)  # (B h w, C 9)
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
            targets = outputs.movedim(1, -1).flatten(0, -2)  # (B h w, K)
            add_product(self._inputs, rows, rows)
            add_product(self._outputs, rows, targets)
            self._squares += targets.to(self._place).double().square().sum(dim=0)
            self._seen += len(rows)

    @torch.no_grad()
    def solve(self, ridge: float) -> float:
        """Write the weights into the convolution; returns the share of the wanted outputs' energy that they give."""
        if not self._seen:
            raise ValueError("Nothing to fit: no picture was added.")
        penalty = ridge * self._inputs.diagonal().clamp_min(1e-8)
        start = torch.cat([self.conv.weight.flatten(1), self.conv.bias[:, None]], dim=1)  # type: ignore[index]
        sought = self._outputs + penalty[:, None] * start.T.to(self._place).double()
        system = self._inputs.clone()
        system.diagonal().add_(penalty)
        weights = torch.linalg.solve(system, sought)
        self.conv.weight.copy_(weights[:-1].T.reshape(self.conv.weight.shape))
        self.conv.bias.copy_(weights[-1])  # type: ignore[union-attr]
        error = self._squares - 2 * (weights * self._outputs).sum(0) + (weights * (self._inputs @ weights)).sum(0)
        return float(1 - error.sum() / self._squares.sum().clamp_min(1e-12))


def fit_bytes(in_channels: int, out_channels: int) -> int:
    """Bytes that a fit of a 3 x 3 convolution takes at most, without the UNet that gives its inputs."""
    size = in_channels * 9 + 1
    rows = ROWS * (size * (4 + 8 + 8) + out_channels * (4 + 8))  # in float32 and, twice, in float64
    return rows + 8 * size * (3 * size + 3 * out_channels)  # the sums, the system and its factors


@torch.no_grad()
def fit_conv_in(unet: UNet2DConditionModel, pairs: Iterable[tuple[Tensor, Tensor]], ridge: float = 1e-3) -> float:
    """Fit `conv_in` to pairs of (the UNet's input, the features that `conv_in` should give of it).

    Returns the share of the features' energy that the fit explains, from 0 to 1.
    """
    fit = ConvRegression(unet.conv_in)
    for inputs, features in pairs:
        fit.add(inputs, features)
    return fit.solve(ridge)


@torch.no_grad()
def fit_conv_out(unet: UNet2DConditionModel, wanted: Iterable[Tensor], ridge: float = 0.1) -> float:
    """Fit `conv_out` to the outputs wanted of it, on the features that the UNet itself gives.

    `wanted` must run the UNet on an input just before it yields what `conv_out` should have given there.
    Returns the share of the wanted outputs' energy explained.
    """
    fit = ConvRegression(unet.conv_out)
    features: list[Tensor] = []
    hook = unet.conv_out.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        for outputs in wanted:
            fit.add(features[-1], outputs)
            features.clear()
    finally:
        hook.remove()
    return fit.solve(ridge)

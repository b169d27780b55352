"""A closed-form start for the end of a UNet that a stage replaces: ridge regression instead of random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F


class ConvRegression:
    """The least-squares weights of a 3 x 3 convolution, from inputs and wanted outputs seen batch by batch.

    Minimises `|conv(x) - y|^2` plus `ridge` times each weight's square scaled by its input's mean square, with one
    linear system whose size does not depend on the number of pictures.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.bias is None:
            raise ValueError("Only a 3 x 3 convolution with padding 1 and a bias can be fitted.")
        self.conv = conv
        size = conv.in_channels * 9 + 1
        self._inputs = torch.zeros(size, size, dtype=torch.float64)
        self._outputs = torch.zeros(size, conv.out_channels, dtype=torch.float64)
        self._squares, self._sums = torch.zeros(conv.out_channels, dtype=torch.float64), 0
        self._seen = 0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """Count in a batch: inputs (B, C, h, w), wanted outputs (B, K, h, w)."""
        rows = F.unfold(inputs.float(), 3, padding=1).movedim(1, -1).flatten(0, -2)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1).double().cpu()
        targets = wanted.movedim(1, -1).flatten(0, -2).double().cpu()
        self._inputs += rows.T @ rows
        self._outputs += rows.T @ targets
        self._squares += targets.square().sum(dim=0)
        self._seen += len(rows)

    @torch.no_grad()
    def solve(self, ridge: float) -> float:
        """Write the weights into the convolution; returns the share of the wanted outputs' energy that they give."""
        if not self._seen:
            raise ValueError("Nothing to fit: no picture was added.")
        scale = self._inputs.diagonal().clamp_min(1e-8)
        weights = torch.linalg.solve(self._inputs + torch.diag(ridge * scale), self._outputs)
        taps = weights[:-1].T.reshape(self.conv.weight.shape)
        self.conv.weight.copy_(taps)
        self.conv.bias.copy_(weights[-1])  # type: ignore[union-attr]
        error = self._squares - 2 * (weights * self._outputs).sum(0) + (weights * (self._inputs @ weights)).sum(0)
        return float(1 - error.sum() / self._squares.sum().clamp_min(1e-12))


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
def fit_conv_out(
    unet: UNet2DConditionModel,
    pairs: Iterable[tuple[Tensor, Tensor]],
    run: Callable[[Tensor], object],
    ridge: float = 0.1,
) -> float:
    """Fit `conv_out` to pairs of (the UNet's input, its wanted output); `run` evaluates the UNet on an input.

    The features before `conv_out` are the UNet's own. Returns the share of the wanted outputs' energy explained.
    """
    fit = ConvRegression(unet.conv_out)
    seen: list[Tensor] = []
    hook = unet.conv_out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        for inputs, wanted in pairs:
            seen.clear()
            run(inputs)
            fit.add(seen[0], wanted)
    finally:
        hook.remove()
    return fit.solve(ridge)

"""Scores of the 8-pixel grid and of seams between tiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from gendrpix.metrics.fidelity import check_side
from gendrpix.specs import PATCH

GRID_MIN_PX = 64
"""Shortest side for the grid score: harmonics must stand apart by more than their ring's radius."""
FLOOR = 1e-6
"""Amplitude added in the grid score, far below the noise of 8-bit rounding: a flat picture scores 0 dB."""


# The grid of 8 pixels ----------------------------------------------------------------------------------------------


def grid_score(x: Tensor) -> float:
    """By how many dB the harmonics of an 8-pixel period stand above their surroundings; the mean over the batch.

    x: (B, 3, H, W) float in [-1, 1], at least 64 pixels a side. Luminance, cropped to multiples of 8, Hann
    window, amplitudes of the 2-D spectrum. For each harmonic (k H/8, l W/8), k and l in 0..7 and not both 0:
    20 log10(mean of its 3 x 3 bins / median of the 13 x 13 bins around them without the inner 5 x 5). The score
    is the mean over the 63 harmonics. About 0 for a natural picture; JPEG blocks raise it too, so compare it with
    the input's or the truth's. Score what is saved, rounded to 8 bits: an enlarged picture has next to nothing
    at high frequencies, and without the rounding's noise its score says little.
    """
    check_side(x, GRID_MIN_PX, "The grid score")
    height, width = (side - side % PATCH for side in x.shape[-2:])
    weights = x.new_tensor((0.299, 0.587, 0.114), dtype=torch.float64)
    cropped = x[..., :height, :width].cpu().double()
    luminance = torch.einsum("bchw,c->bhw", cropped, weights.cpu())
    luminance = luminance - luminance.mean(dim=(-2, -1), keepdim=True)
    window = torch.outer(*(torch.hann_window(side, dtype=torch.float64) for side in (height, width)))
    amplitude = torch.fft.fft2(luminance * window, norm="ortho").abs() + FLOOR  # (B, H, W)
    patches = _around_harmonics(amplitude)  # (B, 63, 13, 13)
    inner = patches[..., 5:8, 5:8].mean(dim=(-2, -1))
    ring = torch.ones(13, 13, dtype=torch.bool)
    ring[4:9, 4:9] = False
    surroundings = patches[..., ring].quantile(0.5, dim=-1)
    return float((20 * torch.log10(inner / surroundings)).mean())


def _around_harmonics(amplitude: Tensor) -> Tensor:
    """(B, H, W) => (B, 63, 13, 13): the bins about each harmonic, wrapping."""
    height, width = amplitude.shape[-2:]
    reach = torch.arange(-6, 7)
    rows = (torch.arange(PATCH)[:, None] * (height // PATCH) + reach) % height  # (8, 13)
    columns = (torch.arange(PATCH)[:, None] * (width // PATCH) + reach) % width  # (8, 13)
    patches = amplitude[:, rows[:, None, :, None], columns[None, :, None, :]]  # (B, 8, 8, 13, 13)
    return patches.flatten(1, 2)[:, 1:]  # without the mean's own bin


# Seams -------------------------------------------------------------------------------------------------------------


def seam_score(x: Tensor, rows: Sequence[int], columns: Sequence[int], period: int = PATCH) -> float:
    """By how many dB the steps across given lines stand above those across their neighbours; 0 without a seam.

    x: (B, C, H, W). rows, columns: the lines lie before these positions. A line's neighbours are the lines one and two
    periods before and after it, so that a pattern of the grid of 8 pixels is no seam. 20 log10 of the ratio of the mean
    steps. Raises ValueError where no line has neighbours.
    """
    at_lines, beside = [], []
    for lines, steps in ((rows, x.diff(dim=-2).abs().mean((0, 1, 3))), (columns, x.diff(dim=-1).abs().mean((0, 1, 2)))):
        near = [-2 * period, -period, period, 2 * period]
        for line in lines:
            places = [line + distance - 1 for distance in near if 0 <= line + distance - 1 < len(steps)]
            places = [place for place in places if place + 1 not in lines]
            if places and 0 < line <= len(steps):
                at_lines.append(float(steps[line - 1]))
                beside.append(float(steps[places].mean()))
    if not at_lines:
        raise ValueError(f"No line has a neighbour {period} positions away; got rows {rows} and columns {columns}.")
    return 20 * math.log10((statistics.fmean(at_lines) + FLOOR) / (statistics.fmean(beside) + FLOOR))

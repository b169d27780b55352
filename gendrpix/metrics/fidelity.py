"""Figures of a restoration: time, memory, fidelity to a truth, and the grid of 8 pixels.

Pictures are (B, 3, H, W) float in [-1, 1]. The metrics that need a network or its weights are in
:mod:`gendrpix.metrics.scorer`.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

SSIM_MIN_PX = 11
"""Side of SSIM's Gaussian window, in pixels."""
SSIM_STRIP_PX = 128
"""Rows of windows that SSIM computes at once, so that its memory does not grow with the picture's height."""


# Fidelity ----------------------------------------------------------------------------------------------------------


def psnr_y(image: Tensor, truth: Tensor) -> float:
    """PSNR in dB on Y (BT.601, studio range, as the field's tables), no border crop; the mean over the batch.

    image, truth: (B, 3, H, W) float in [-1, 1]. Identical pictures get 80 dB, pyiqa's ceiling.
    """
    from pyiqa.archs.psnr_arch import PSNR

    check_pair(image, truth)
    metric = PSNR(test_y_channel=True, color_space="ycbcr")
    return float(metric(unit_range(image), unit_range(truth)).mean())


def ssim_y(image: Tensor, truth: Tensor) -> float:
    """SSIM on Y (BT.601, rounded to 8 bits as MATLAB does), 11 x 11 Gaussian window, no border crop; batch mean.

    image, truth: (B, 3, H, W) float in [-1, 1], at least 11 pixels a side. pyiqa's formula with the window as two
    passes of 11 taps: pyiqa's own takes 121 in float64, several times as long as every other metric here.
    """
    from pyiqa.archs.func_util import preprocess_rgb

    check_pair(image, truth)
    check_side(image, SSIM_MIN_PX, "SSIM")
    total, num_rows = 0.0, image.shape[-2] - SSIM_MIN_PX + 1
    for top in range(0, num_rows, SSIM_STRIP_PX):  # the map's rows, each window whole in one strip
        count = min(SSIM_STRIP_PX, num_rows - top)
        rows = slice(top, top + count + SSIM_MIN_PX - 1)
        a, b = (preprocess_rgb(unit_range(x[..., rows, :]), True, 255, "ycbcr").double() for x in (image, truth))
        total += count * float(_ssim_map(a, b).mean())
    return total / num_rows


def _ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1, H, W) float64 in [0, 255], both => (B, 1, H - 10, W - 10): Wang et al. 2004, negatives set to 0."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    taps = torch.exp(-((torch.arange(SSIM_MIN_PX, dtype=a.dtype) - SSIM_MIN_PX // 2) ** 2) / (2 * 1.5**2))
    stacked = torch.stack([a, b, a * a, b * b, a * b])  # (5, B, 1, H, W)
    for dim in (-1, -2):
        length = stacked.shape[dim] - SSIM_MIN_PX + 1
        shifted = (stacked.narrow(dim, i, length) * float(tap / taps.sum()) for i, tap in enumerate(taps))
        stacked = functools.reduce(Tensor.add_, shifted)
    mean_a, mean_b, square_a, square_b, product = stacked
    contrast = (2 * (product - mean_a * mean_b) + c2) / (square_a - mean_a**2 + square_b - mean_b**2 + c2)
    structure: Tensor = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast.relu()
    return structure


def unit_range(x: Tensor) -> Tensor:
    """[-1, 1] => [0, 1], float32, clamped: what pyiqa reads."""
    return ((x.float() + 1) / 2).clamp(0, 1)


def check_pair(image: Tensor, truth: Tensor) -> None:
    """Raise ValueError unless both have one shape."""
    if image.shape != truth.shape:
        raise ValueError(
            f"The picture has shape {tuple(image.shape)} and the truth {tuple(truth.shape)}; "
            "give a truth of the result's size."
        )


def check_side(x: Tensor, least_px: int, label: str) -> None:
    """Raise ValueError unless both sides have `least_px` pixels."""
    height, width = x.shape[-2:]
    if min(height, width) < least_px:
        raise ValueError(
            f"{label} needs at least {least_px} pixels a side; got {width} x {height}. Measure a larger picture."
        )

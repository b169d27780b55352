"""A small seeded degradation to try restorers on: blur, reduction, noise, JPEG, in this order.

Simpler than what the networks are trained on; its parts are few enough to be understood one by one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gendrpix.image.read import open_picture
from gendrpix.image.resize import reflect_pad, resize
from gendrpix.image.write import to_pil

MAX_BLUR_PX = 8.0
MAX_NOISE = 0.3
NO_JPEG = 100


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What is done to a clean picture."""

    blur_px: float = 1.0
    """Standard deviation of a Gaussian, in the clean picture's pixels; 0 leaves it out."""
    factor: int = 4
    """How many times smaller the result is, 1 to 8."""
    noise: float = 0.02
    """Standard deviation of Gaussian noise as a part of the full range, 0 to 0.3."""
    jpeg: int = 80
    """JPEG's quality, 5 to 99; 100 leaves it out."""
    seed: int = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        ranges = (
            ("blur_px", 0.0, MAX_BLUR_PX),
            ("factor", 1, 8),
            ("noise", 0.0, MAX_NOISE),
            ("jpeg", 5, NO_JPEG),
            ("seed", 0, 2**31 - 1),
        )
        for name, low, high in ranges:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"The degradation's {name} is {value}; expected {low} to {high}.")


def degrade(clean: Tensor, degradation: Degradation) -> Tensor:
    """(1, 3, H, W) in [-1, 1] => (1, 3, H // factor, W // factor) in [-1, 1]; the same seed gives the same pixels.

    Raises ValueError unless both sides are multiples of the factor (`crop_clean`).
    """
    height, width = clean.shape[-2:]
    factor = degradation.factor
    if height % factor or width % factor:
        raise ValueError(f"The clean picture is {width} x {height}; crop it to multiples of {factor} pixels.")
    small = resize(blur(clean, degradation.blur_px), height // factor, width // factor)
    generator = torch.Generator().manual_seed(degradation.seed)
    noise = torch.randn(small.shape, generator=generator) * (2 * degradation.noise)
    noisy = (small + noise).clamp(-1, 1)
    return noisy if degradation.jpeg == NO_JPEG else through_jpeg(noisy, degradation.jpeg)


def blur(x: Tensor, sigma_px: float) -> Tensor:
    """Gaussian of that standard deviation, cut off at 3 sigma, reflecting at the edges: (B, C, H, W) => the same."""
    reach = round(3 * sigma_px)
    if reach == 0:
        return x
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).to(x)
    channels = x.shape[1]
    padded = reflect_pad(x, reach, reach, reach, reach)
    down = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(down, kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)


def through_jpeg(x: Tensor, quality: int) -> Tensor:
    """Encoded as JPEG and read back: (1, 3, H, W) in [-1, 1] => the same."""
    buffer = io.BytesIO()
    to_pil(x).save(buffer, "JPEG", quality=quality)
    return open_picture(buffer.getvalue()).color


def crop_clean(clean: Tensor, factor: int, most_px: int) -> Tensor:
    """The middle of (1, 3, H, W), at most `most_px` a side, its sides multiples of `factor`."""
    height, width = clean.shape[-2:]
    rows, columns = (min(side, most_px) // factor * factor for side in (height, width))
    if min(rows, columns) == 0:
        raise ValueError(
            f"The picture is {width} x {height}, too small to be reduced {factor} times; take a larger one."
        )
    top, left = (height - rows) // 2, (width - columns) // 2
    return clean[..., top : top + rows, left : left + columns]

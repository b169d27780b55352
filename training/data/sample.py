"""One training sample: a photo => a crop with its degraded twin, by the draws of one random generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gendrpix.image.resize import resize
from training.data.degradation import DegradationPlan, apply, draw
from training.data.degradation_ops import sharpen
from training.data.degradation_ranges import Preset

HALF_STEPS = 127.5
"""8-bit steps in one unit of [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How a photo becomes a sample."""

    crop_px: int
    """Side of the square target, a multiple of `scale`."""
    scale: int = 4
    degradation: Preset | None
    """None: the input is the target itself, for stages that need no degraded input."""
    negative_probability: float = 0.0
    zoom: tuple[float, float] = (0.5, 1.0)
    """Range of the photo's reduction before the crop: smaller means sharper pixels and more of the scene. A
    photo too small for that is reduced less."""
    flips: bool = True
    """Mirror and transpose at random, the eight positions equally often."""
    candidates: int = 1
    """Places drawn for each crop, of which the one with the most detail is taken: 1 draws evenly, more see less of
    skies and blurred backgrounds, which teach little."""
    sharpen: bool = False
    """Sharpen the target, and what is degraded, by Real-ESRGAN's unsharp mask."""
    in_turn: bool = False
    """Take the photos one after the other instead of at random by area."""

    def __post_init__(self) -> None:
        if self.crop_px < self.scale or self.crop_px % self.scale:
            raise ValueError(f"crop_px is {self.crop_px}, expected a positive multiple of the scale, {self.scale}.")
        if not 0.0 <= self.negative_probability <= 1.0:
            raise ValueError(f"negative_probability is {self.negative_probability}, expected 0 to 1.")
        if self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}, expected at least 1.")
        if not 0.0 < self.zoom[0] <= self.zoom[1] <= 1.0:
            raise ValueError(f"zoom is {self.zoom}, expected 0 < low <= high <= 1.")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample with what made it."""

    hq: Tensor
    """(3, crop, crop) float32 in [-1, 1]: the target."""
    lq: Tensor
    """(3, crop, crop) float32 in [-1, 1]: the degraded picture enlarged by `resize`, x of the
    method."""
    small: Tensor
    """(3, crop / scale, crop / scale) float32 in [-1, 1]: the degraded picture."""
    negative: bool
    photo: Path
    plan: DegradationPlan | None
    """None where nothing was degraded."""
    taught: Tensor | None = None
    """(3, crop, crop) float32 in [-1, 1]: a pixel teacher's picture, where there is one."""

    def item(self, index: int) -> dict[str, Tensor]:
        """What a DataLoader collates: "hq", "lq", "small", "negative" (bool), "index" (int64), and "taught"."""
        item = {
            "hq": self.hq,
            "lq": self.lq,
            "small": self.small,
            "negative": torch.tensor(self.negative),
            "index": torch.tensor(index),
        }
        return item if self.taught is None else {**item, "taught": self.taught}


def crop(photo: Tensor, settings: CropSettings, rng: np.random.Generator) -> Tensor:
    """(3, H, W) uint8 => (3, crop, crop) float32 in [-1, 1]: a random square, reduced by a random zoom,
    flipped."""
    shortest = min(photo.shape[-2:])
    zoom = float(rng.uniform(*settings.zoom))
    side = min(shortest, max(settings.crop_px, math.floor(settings.crop_px / zoom + 0.5)))
    regions = []
    for _ in range(settings.candidates):
        top = int(rng.integers(photo.shape[-2] - side + 1))
        left = int(rng.integers(photo.shape[-1] - side + 1))
        regions.append(photo[:, top : top + side, left : left + side])
    region = regions[0] if len(regions) == 1 else max(regions, key=detail)
    flips = (rng.random(3) < 0.5).tolist()
    pixels = resize(region[None].float() / HALF_STEPS - 1, settings.crop_px, settings.crop_px)[0]
    return flipped(pixels, flips) if settings.flips else pixels.contiguous()


def flipped(pixels: Tensor, flips: Sequence[bool]) -> Tensor:
    """(3, H, W) in one of the eight positions: transposed, turned upside down, mirrored, each where `flips` says so."""
    pixels = pixels.flip([axis for axis in (1, 2) if flips[axis]])
    return (pixels.transpose(1, 2) if flips[0] else pixels).contiguous()


def detail(region: Tensor) -> float:
    """Mean difference of neighbours of (3, H, W) uint8 in green, every fourth column of every second row."""
    grid = region[1, ::2, ::4].to(torch.int16)
    return float(grid.diff(dim=0).abs().float().mean() + grid.diff(dim=1).abs().float().mean())


def make_sample(hq: Tensor, settings: CropSettings, rng: np.random.Generator, photo: Path = Path()) -> Sample:
    """Choose the sign, degrade the target, enlarge the result again."""
    hq = sharpen(hq[None])[0] if settings.sharpen else hq
    negative = bool(rng.random() < settings.negative_probability)
    if settings.degradation is None:
        return Sample(hq=hq, lq=hq, small=hq, negative=negative, photo=photo, plan=None)
    plan = draw(settings.degradation, rng, settings.scale)
    small = apply(plan, hq)
    lq = resize(small[None], settings.crop_px, settings.crop_px)[0]
    return Sample(hq=hq, lq=lq, small=small, negative=negative, photo=photo, plan=plan)


def as_bytes(color: Tensor) -> Tensor:
    """Float in [-1, 1] => uint8, a quarter of the memory."""
    return color.add(1).mul_(HALF_STEPS).round_().to(torch.uint8)

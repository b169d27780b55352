"""What may happen to a picture: the ranges from which a degradation's parameters are drawn.

Numbers in the defaults: Real-ESRGAN's (arXiv 2107.10833). Noise is counted in 8-bit steps, as published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.data.degradation_ops import Filter, KernelKind

Range = tuple[float, float]

FILTERS: tuple[Filter, ...] = ("area", "bilinear", "bicubic")
KERNEL_SIZES_PX = tuple(range(7, 22, 2))
MIXED_KINDS: tuple[tuple[KernelKind, float], ...] = (
    ("iso", 0.45),
    ("aniso", 0.25),
    ("generalized_iso", 0.12),
    ("generalized_aniso", 0.03),
    ("plateau_iso", 0.12),
    ("plateau_aniso", 0.03),
)


def _check_probability(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, expected a probability from 0 to 1.")


def _check_range(lowest: float, **ranges: Range) -> None:
    for name, (low, high) in ranges.items():
        if not lowest <= low <= high < math.inf:
            raise ValueError(f"{name} is ({low}, {high}), expected {lowest} <= low <= high.")


@dataclass(frozen=True, kw_only=True)
class BlurRange:
    """Which kernels may blur."""

    probability: float = 1.0
    sizes_px: tuple[int, ...] = KERNEL_SIZES_PX
    sinc_probability: float = 0.1
    """Share of sinc filters; the other kinds share the rest as `kinds` says."""
    kinds: tuple[tuple[KernelKind, float], ...] = MIXED_KINDS
    sigma: Range = (0.2, 3.0)
    generalized_beta: Range = (0.5, 4.0)
    """Drawn from below 1 and from above 1 equally often, as the two halves differ in width."""
    plateau_beta: Range = (1.0, 2.0)
    """Drawn likewise; with a range that starts at 1, half of the plateaus have exactly 1, as published."""

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability, sinc_probability=self.sinc_probability)
        _check_range(1e-3, sigma=self.sigma, generalized_beta=self.generalized_beta, plateau_beta=self.plateau_beta)
        if abs(sum(p for _, p in self.kinds) - 1.0) > 1e-6:
            raise ValueError(f"the probabilities of kinds add to {sum(p for _, p in self.kinds)}, expected 1.")


@dataclass(frozen=True, kw_only=True)
class ResizeRange:
    """How the size may change on the way."""

    up: float
    down: float
    """Probabilities of enlarging and of shrinking; the rest keeps the size."""
    factor: Range
    """Shrinking draws from factor[0] to 1, enlarging from 1 to factor[1]."""

    def __post_init__(self) -> None:
        _check_probability(up=self.up, down=self.down, sum=round(self.up + self.down, 9))
        _check_range(1e-3, factor=self.factor)
        if not self.factor[0] <= 1.0 <= self.factor[1]:
            raise ValueError(f"factor is {self.factor}, expected a range around 1.")


@dataclass(frozen=True, kw_only=True)
class NoiseRange:
    """Which noise may be added."""

    probability: float = 1.0
    gaussian_probability: float = 0.5
    """Gaussian noise; Poisson (shot) noise otherwise."""
    sigma_steps: Range = (1.0, 30.0)
    """Standard deviation of the Gaussian noise in 8-bit steps."""
    poisson_scale: Range = (0.05, 3.0)
    """Strength of the shot noise; 1 is that of as many counts as the picture has levels."""
    grey_probability: float = 0.4
    """Share of noise that is equal in the three channels."""

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability, gaussian=self.gaussian_probability, grey=self.grey_probability)
        _check_range(0.0, sigma_steps=self.sigma_steps, poisson_scale=self.poisson_scale)


@dataclass(frozen=True, kw_only=True)
class OtherCodecs:
    """How often another compression takes the place of one JPEG."""

    webp: float
    """Probability of WebP, at the quality drawn for JPEG."""
    avif: float
    """Probability of AVIF, likewise."""
    jpeg_twice: float
    """Probability of a JPEG before the last one, its blocks elsewhere: saved, cropped or moved, saved again."""

    def __post_init__(self) -> None:
        total = round(self.webp + self.avif + self.jpeg_twice, 9)
        _check_probability(webp=self.webp, avif=self.avif, jpeg_twice=self.jpeg_twice, sum=total)


@dataclass(frozen=True, kw_only=True)
class JpegRange:
    """How strongly the picture may be compressed."""

    probability: float = 1.0
    quality: tuple[int, int] = (30, 95)
    """Both ends included."""
    others: OtherCodecs | None = None
    """None: always one JPEG."""

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability)
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"quality is {self.quality}, expected 1 <= low <= high <= 100.")


@dataclass(frozen=True, kw_only=True)
class SharpenRange:
    """How a camera may sharpen its own picture."""

    probability: float
    sigma: Range
    """In pixels of the reduced picture."""
    amount: Range

    def __post_init__(self) -> None:
        _check_probability(probability=self.probability)
        _check_range(1e-3, sigma=self.sigma, amount=self.amount)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Blur, resize, noise and JPEG, once each."""

    blur: BlurRange
    resize: ResizeRange
    noise: NoiseRange
    jpeg: JpegRange


@dataclass(frozen=True, kw_only=True)
class DegradationPreset:
    """Everything that may happen to a picture. Its default is the plain, antialiased bicubic reduction."""

    clean_probability: float = 1.0
    """Share of the samples that are only reduced: bicubic, antialiased."""
    first: Pass | None = None
    """At the clean picture's size; None for a single-order model."""
    second: Pass | None = None
    """Around the reduced size, its resize relative to that; may be None only where every sample is clean."""
    sharpening: SharpenRange | None = None
    """Behind the second pass, before the last JPEG."""
    final_sinc_probability: float = 0.0
    """A sinc filter with the last resize, before or after the second JPEG, equally often."""
    antialias: bool = False
    """Low-pass before shrinking by the bilinear and bicubic filters. The published models do not: they
    alias."""

    def __post_init__(self) -> None:
        _check_probability(clean=self.clean_probability, final_sinc=self.final_sinc_probability)
        if self.second is None and (self.clean_probability < 1.0 or self.first is not None):
            raise ValueError(f"clean_probability is {self.clean_probability}, so a second pass is needed.")


@dataclass(frozen=True, kw_only=True)
class DegradationMixture:
    """Several presets, one of which is drawn for each picture."""

    parts: tuple[tuple[DegradationPreset, float], ...]
    """Presets and their shares, which add to 1."""

    def __post_init__(self) -> None:
        shares = [share for _, share in self.parts]
        if not shares or min(shares) <= 0 or abs(sum(shares) - 1.0) > 1e-6:
            raise ValueError(f"the shares of the mixture are {shares}, expected positive numbers that add to 1.")


Preset = DegradationPreset | DegradationMixture
"""What a sample may be degraded by."""

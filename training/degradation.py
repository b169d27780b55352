"""Synthetic degradation: clean pictures => small, damaged ones.

`draw(preset, rng)` chooses every parameter and gives a plan that can be shown and counted without touching a
pixel; `apply(plan, image)` does the pixels, a pure function of the two. `degrade` does both for one (seed,
sample index).

Numbers: Real-ESRGAN's second-order model (arXiv 2107.10833) as in its published
`options/train_realesrgan_x4plus.yml` and `realesrgan/data/realesrgan_dataset.py` (xinntao/Real-ESRGAN): two
passes of blur, resize, noise and JPEG, then a final resize with a sinc filter, before or after the last JPEG.
Noise is counted in 8-bit steps, as published.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.steps import (
    STEPS,
    Blur,
    Filter,
    Jpeg,
    KernelKind,
    Noise,
    Resize,
    Sharpen,
    Step,
    blur_kernel,
    compressed,
    convolve,
    noisy,
    resized,
    sharpen,
    sharpened,
    trimmed,
)

__all__ = [
    "PRESETS",
    "DegradationPlan",
    "DegradationPreset",
    "apply",
    "degrade",
    "draw",
    "find_preset",
    "sample_rng",
    "sharpen",
]

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


# What may be drawn ------------------------------------------------------------------------------------------


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
class JpegRange:
    """How strongly the picture may be compressed."""

    probability: float = 1.0
    quality: tuple[int, int] = (30, 95)
    """Both ends included."""

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


# What lenses and scans do: mild's noise and JPEG behind an optical blur of up to three pixels of the truth.
_PHOTO = DegradationPreset(
    clean_probability=0.2,
    second=Pass(
        blur=BlurRange(
            probability=0.8,
            sinc_probability=0.0,
            kinds=(("iso", 0.5), ("aniso", 0.3), ("generalized_iso", 0.1), ("plateau_iso", 0.1)),
            sigma=(0.2, 3.0),
        ),
        resize=ResizeRange(up=0.0, down=0.0, factor=(1.0, 1.0)),
        noise=NoiseRange(probability=0.4, gaussian_probability=1.0, sigma_steps=(1.0, 8.0)),
        jpeg=JpegRange(probability=0.5, quality=(60, 95)),
    ),
    antialias=True,
)

PRESETS: Mapping[str, DegradationPreset] = {
    "bicubic": DegradationPreset(),
    # For the small models: one order, light, a quarter plain. Each damage is left out about half of the time.
    "mild": DegradationPreset(
        clean_probability=0.25,
        second=Pass(
            blur=BlurRange(
                probability=0.5, sinc_probability=0.0, kinds=(("iso", 0.5), ("aniso", 0.5)), sigma=(0.2, 1.2)
            ),
            resize=ResizeRange(up=0.0, down=0.0, factor=(1.0, 1.0)),
            noise=NoiseRange(probability=0.4, gaussian_probability=1.0, sigma_steps=(1.0, 8.0)),
            jpeg=JpegRange(probability=0.5, quality=(60, 95)),
        ),
        antialias=True,
    ),
    "photo": _PHOTO,
    # And what a camera does next: it sharpens, which leaves halos along edges. A network that has not met them takes
    # a halo for detail and draws it.
    "camera": dataclasses.replace(
        _PHOTO, sharpening=SharpenRange(probability=0.6, sigma=(0.5, 1.5), amount=(0.2, 1.6))
    ),
    # AdcSR (arXiv 2411.13383): resize, noise, JPEG and the second blur's probability as published;
    # the shot noise is that of a public setting with the same numbers, the kernels are Real-ESRGAN's.
    "adcsr": DegradationPreset(
        clean_probability=0.0,
        first=Pass(
            blur=BlurRange(),
            resize=ResizeRange(up=0.2, down=0.7, factor=(0.3, 1.5)),
            noise=NoiseRange(sigma_steps=(1.0, 15.0), poisson_scale=(0.05, 2.0)),
            jpeg=JpegRange(quality=(60, 95)),
        ),
        second=Pass(
            blur=BlurRange(probability=0.5, sigma=(0.2, 1.5)),
            resize=ResizeRange(up=0.3, down=0.4, factor=(0.6, 1.2)),
            noise=NoiseRange(sigma_steps=(1.0, 12.0), poisson_scale=(0.05, 1.0)),
            jpeg=JpegRange(quality=(60, 100)),
        ),
        final_sinc_probability=0.8,
    ),
    "real-esrgan": DegradationPreset(
        clean_probability=0.0,
        first=Pass(
            blur=BlurRange(),
            resize=ResizeRange(up=0.2, down=0.7, factor=(0.15, 1.5)),
            noise=NoiseRange(),
            jpeg=JpegRange(),
        ),
        second=Pass(
            blur=BlurRange(probability=0.8, sigma=(0.2, 1.5)),
            resize=ResizeRange(up=0.3, down=0.4, factor=(0.3, 1.2)),
            noise=NoiseRange(sigma_steps=(1.0, 25.0), poisson_scale=(0.05, 2.5)),
            jpeg=JpegRange(),
        ),
        final_sinc_probability=0.8,
    ),
}


def find_preset(name: str) -> DegradationPreset:
    """The preset of that name. ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"degradation is {name!r}, expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


# What was drawn ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DegradationPlan:
    """What happens to one picture, in order."""

    steps: tuple[Step, ...]
    scale: int
    """The picture ends at floor(n / scale) pixels a side."""
    noise_seed: int
    """Seed of the noise's samples."""

    def describe(self) -> str:
        """One line: "iso blur 0.8, area x0.25, jpeg 74"."""
        return ", ".join(step.describe() for step in self.steps)


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of one sample: it depends on the run's seed and the global sample index alone."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and sample index {index} must not be negative.")
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def draw(preset: DegradationPreset, rng: np.random.Generator, scale: int = 4) -> DegradationPlan:
    """Choose every parameter for one picture: a function of preset, scale and the generator's state alone.

    Steps that would do nothing (a resize that keeps the size) are left out. ValueError for a scale below 1.
    """
    if scale < 1:
        raise ValueError(f"scale is {scale}, expected a whole number of at least 1.")
    noise_seed = int(rng.integers(2**63))
    if rng.random() < preset.clean_probability or preset.second is None:
        reduction = Resize(factor=1.0, divisor=scale, filter="bicubic", antialias=True)
        return DegradationPlan(steps=effective([reduction]), scale=scale, noise_seed=noise_seed)
    steps: list[Step] = []
    if preset.first is not None:
        steps += draw_pass(preset.first, rng, 1, preset.antialias)
        steps += draw_jpeg(preset.first.jpeg, rng)
    steps += draw_pass(preset.second, rng, scale, preset.antialias)
    sharpening = preset.sharpening
    if sharpening is not None and rng.random() < sharpening.probability:
        sigma, amount = float(rng.uniform(*sharpening.sigma)), float(rng.uniform(*sharpening.amount))
        steps.append(Sharpen(sigma=sigma, amount=amount))
    last: list[Step] = [Resize(factor=1.0, divisor=scale, filter=draw_filter(rng), antialias=preset.antialias)]
    if rng.random() < preset.final_sinc_probability:
        size = KERNEL_SIZES_PX[int(rng.integers(len(KERNEL_SIZES_PX)))]
        last.append(Blur(kind="sinc", size_px=size, cutoff=float(rng.uniform(math.pi / 3, math.pi))))
    jpeg = draw_jpeg(preset.second.jpeg, rng)
    steps += [*last, *jpeg] if rng.random() < 0.5 else [*jpeg, *last]
    return DegradationPlan(steps=effective(steps), scale=scale, noise_seed=noise_seed)


def effective(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps without resizes to the size that the picture has anyway."""
    kept: list[Step] = []
    size = (1.0, 1)
    for step in steps:
        if isinstance(step, Resize):
            if (step.factor, step.divisor) == size:
                continue
            size = (step.factor, step.divisor)
        kept.append(step)
    return tuple(kept)


def draw_pass(chosen: Pass, rng: np.random.Generator, divisor: int, antialias: bool) -> list[Step]:
    """Blur, resize and noise of one pass, without its JPEG."""
    steps: list[Step] = []
    if rng.random() < chosen.blur.probability:
        steps.append(draw_blur(chosen.blur, rng))
    direction, factor = rng.random(), 1.0
    if direction < chosen.resize.up:
        factor = float(rng.uniform(1.0, chosen.resize.factor[1]))
    elif direction < chosen.resize.up + chosen.resize.down:
        factor = float(rng.uniform(chosen.resize.factor[0], 1.0))
    steps.append(Resize(factor=factor, divisor=divisor, filter=draw_filter(rng), antialias=antialias))
    noise = chosen.noise
    if rng.random() < noise.probability:
        gaussian = rng.random() < noise.gaussian_probability
        level = float(rng.uniform(*(noise.sigma_steps if gaussian else noise.poisson_scale)))
        grey = bool(rng.random() < noise.grey_probability)
        steps.append(Noise(kind="gaussian" if gaussian else "poisson", level=level, grey=grey))
    return steps


def draw_blur(chosen: BlurRange, rng: np.random.Generator) -> Blur:
    """One kernel."""
    size = chosen.sizes_px[int(rng.integers(len(chosen.sizes_px)))]
    if rng.random() < chosen.sinc_probability:
        lowest = math.pi / 3 if size < 13 else math.pi / 5  # small kernels cannot hold the longer waves
        return Blur(kind="sinc", size_px=size, cutoff=float(rng.uniform(lowest, math.pi)))
    bounds = np.cumsum([share for _, share in chosen.kinds])[:-1]
    kind = chosen.kinds[int(np.searchsorted(bounds, rng.random(), side="right"))][0]
    sigma_x = sigma_y = float(rng.uniform(*chosen.sigma))
    angle, beta = 0.0, 1.0
    if kind.endswith("aniso"):
        sigma_y, angle = float(rng.uniform(*chosen.sigma)), float(rng.uniform(-math.pi, math.pi))
    if kind.startswith(("generalized", "plateau")):
        low, high = chosen.generalized_beta if kind.startswith("generalized") else chosen.plateau_beta
        beta = float(rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high))
    return Blur(kind=kind, size_px=size, sigma_x=sigma_x, sigma_y=sigma_y, angle=angle, beta=beta)


def draw_filter(rng: np.random.Generator) -> Filter:
    return FILTERS[int(rng.integers(len(FILTERS)))]


def draw_jpeg(chosen: JpegRange, rng: np.random.Generator) -> list[Step]:
    if rng.random() >= chosen.probability:
        return []
    return [Jpeg(quality=int(rng.integers(chosen.quality[0], chosen.quality[1] + 1)))]


# Pixels -----------------------------------------------------------------------------------------------------


def apply(plan: DegradationPlan, image: Tensor) -> Tensor:
    """Degrade (B, 3, H, W) or (3, H, W) float in [-1, 1] to floor(H / scale) x floor(W / scale) 8-bit levels.

    A batch shares the plan; its noise differs. The result is a function of plan and image alone. ValueError
    for other shapes and for pictures smaller than the scale.
    """
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (B, 3, H, W) or (3, H, W).")
    height, width = image.shape[-2:]
    if min(height, width) < plan.scale:
        raise ValueError(f"image is {width} x {height}, too small for scale {plan.scale}; give a larger picture.")
    generator = torch.Generator().manual_seed(plan.noise_seed)
    batch = image if image.ndim == 4 else image[None]
    pixels = (batch.float() + 1) / 2  # [-1, 1] => [0, 1]
    for step in plan.steps:
        if isinstance(step, Blur):
            pixels = convolve(pixels, trimmed(blur_kernel(step)))
        elif isinstance(step, Resize):
            pixels = resized(pixels, step, height, width)
        elif isinstance(step, Noise):
            pixels = noisy(pixels.clamp(0, 1), step, generator)
        elif isinstance(step, Sharpen):
            pixels = sharpened(pixels, step)
        else:
            pixels = compressed(pixels, step.quality)
    pixels = (pixels.clamp(0, 1) * STEPS).round() / STEPS
    result = (pixels * 2 - 1).to(image.dtype)  # [0, 1] => [-1, 1]
    return result if image.ndim == 4 else result[0]


def degrade(image: Tensor, preset: DegradationPreset, seed: int, index: int, scale: int = 4) -> Tensor:
    """`apply` of the plan that belongs to (seed, index)."""
    return apply(draw(preset, sample_rng(seed, index), scale), image)

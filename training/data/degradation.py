"""Synthetic degradation: clean pictures => small, damaged ones.

`draw(preset, rng)` chooses every parameter and gives a plan that can be shown and counted without touching a
pixel; `apply(plan, image)` does the pixels, a pure function of the two. `degrade` does both for one (seed,
sample index).

Numbers: Real-ESRGAN's second-order model (arXiv 2107.10833) as in its published
`options/train_realesrgan_x4plus.yml` and `realesrgan/data/realesrgan_dataset.py` (xinntao/Real-ESRGAN): two
passes of blur, resize, noise and JPEG, then a final resize with a sinc filter, before or after the last JPEG.
The ranges stand in `degradation_ranges`, the named presets in `degradation_presets`, the pixels in `steps`.
Noise is counted in 8-bit steps, as published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.degradation_ops import (
    JPEG_BLOCK,
    STEPS,
    Blur,
    Filter,
    Jpeg,
    Noise,
    Resize,
    Sharpen,
    Step,
    WebCompression,
    blur_kernel,
    compressed,
    convolve,
    noisy,
    resized,
    sharpened,
    trimmed,
)
from training.data.degradation_ranges import (
    FILTERS,
    KERNEL_SIZES_PX,
    BlurRange,
    DegradationPreset,
    JpegRange,
    Pass,
    Preset,
)

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


def choose(preset: Preset, rng: np.random.Generator) -> DegradationPreset:
    """One of a mixture's presets, drawn by their shares; any other preset itself, without a draw."""
    if isinstance(preset, DegradationPreset):
        return preset
    bounds = np.cumsum([share for _, share in preset.parts])[:-1]
    return preset.parts[int(np.searchsorted(bounds, rng.random(), side="right"))][0]


def draw(preset: Preset, rng: np.random.Generator, scale: int = 4) -> DegradationPlan:
    """Choose every parameter for one picture: a function of preset, scale and the generator's state alone.

    A mixture's part is drawn first. Steps that would do nothing (a resize that keeps the size) are left out. ValueError
    for a scale below 1.
    """
    if scale < 1:
        raise ValueError(f"scale is {scale}, expected a whole number of at least 1.")
    preset = choose(preset, rng)
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
    """No step, one compression, or two JPEGs whose blocks stand apart."""
    if rng.random() >= chosen.probability:
        return []
    quality = draw_quality(chosen, rng)
    if chosen.others is None:
        return [Jpeg(quality=quality)]
    others, share = chosen.others, rng.random()
    if share < others.webp:
        return [WebCompression(codec="webp", quality=quality)]
    if share < others.webp + others.avif:
        return [WebCompression(codec="avif", quality=quality)]
    if share < others.webp + others.avif + others.jpeg_twice:
        top, left = divmod(int(rng.integers(1, JPEG_BLOCK**2)), JPEG_BLOCK)  # every offset but none
        return [Jpeg(quality=draw_quality(chosen, rng), shift=(top, left)), Jpeg(quality=quality)]
    return [Jpeg(quality=quality)]


def draw_quality(chosen: JpegRange, rng: np.random.Generator) -> int:
    return int(rng.integers(chosen.quality[0], chosen.quality[1] + 1))


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
            pixels = compressed(pixels, step)
    pixels = (pixels.clamp(0, 1) * STEPS).round() / STEPS
    result = (pixels * 2 - 1).to(image.dtype)  # [0, 1] => [-1, 1]
    return result if image.ndim == 4 else result[0]


def degrade(image: Tensor, preset: Preset, seed: int, index: int, scale: int = 4) -> Tensor:
    """`apply` of the plan that belongs to (seed, index)."""
    return apply(draw(preset, sample_rng(seed, index), scale), image)

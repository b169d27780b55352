"""The steps of a degradation, each as its parameters and as what it does to pixels.

Blur kernels have the shapes of Real-ESRGAN (arXiv 2107.10833, sections 3.2 and 3.3). With q = r^T S^-1 r, r
the offset from the centre and S the covariance: Gaussian exp(-q / 2), generalised exp(-q^beta / 2), plateau
1 / (1 + q^beta); the sinc filter is the circular ideal low pass, w J1(w |r|) / (2 pi |r|), w the cut-off in
radians a pixel.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gendrpix.image.resize import reflect_pad
from gendrpix.image.write import to_array

KernelKind = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc"]
Filter = Literal["area", "bilinear", "bicubic"]
WebCodec = Literal["webp", "avif"]

NEGLIGIBLE = 1e-6
"""Share of a kernel's absolute mass that may be cut off at its edges: far below a tenth of an 8-bit step."""
STEPS = 255.0
"""8-bit steps from black to white: the unit of the published noise levels, and JPEG's samples."""
LUMA = (0.2989, 0.587, 0.114)
JPEG_BLOCK = 8
"""Side of JPEG's blocks in pixels."""
WEB_OPTIONS: Mapping[WebCodec, Mapping[str, int]] = {
    "webp": {"method": 2},
    "avif": {"speed": 9, "max_threads": 1},
}
"""Fast encoders: at 256 x 256 px AVIF takes 9 ms in place of 100 ms at Pillow's own speed 6, at the same quality."""


# Parameters -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Blur:
    """One blur kernel, by its parameters."""

    kind: KernelKind
    size_px: int
    """Side of the square kernel, odd."""
    sigma_x: float = 1.0
    """Standard deviation in pixels along the first axis of the ellipse; unused by sinc."""
    sigma_y: float = 1.0
    """Along the second axis; equal to sigma_x for the isotropic kinds."""
    angle: float = 0.0
    """Turn of the ellipse in radians."""
    beta: float = 1.0
    """Exponent of the generalised and the plateau kinds."""
    cutoff: float = math.pi
    """Cut-off of the sinc filter in radians a pixel, up to pi."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(KernelKind):
            raise ValueError(f"kind is {self.kind!r}, expected one of {', '.join(get_args(KernelKind))}.")
        if self.size_px < 1 or self.size_px % 2 == 0:
            raise ValueError(f"size_px is {self.size_px}, expected an odd number of at least 1.")
        if min(self.sigma_x, self.sigma_y, self.beta) <= 0 or not 0 < self.cutoff <= math.pi:
            raise ValueError(f"{self} is no blur: sigma and beta must be positive, cutoff in 0 to pi.")

    def describe(self) -> str:
        """One short phrase: "iso blur 1.3"."""
        if self.kind == "sinc":
            return f"sinc {self.cutoff / math.pi:.2f} pi"
        sigmas = {f"{self.sigma_x:.1f}": None, f"{self.sigma_y:.1f}": None}  # one where they are equal
        return f"{self.kind} blur {'/'.join(sigmas)}"


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A change of size to floor(n / divisor * factor), at least 1, of the *clean* picture's n pixels."""

    factor: float
    divisor: int
    filter: Filter
    antialias: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Target (height, width) for a clean picture of that size."""
        reduced = (max(1, math.floor(n / self.divisor * self.factor)) for n in (height, width))
        return next(reduced), next(reduced)

    def describe(self) -> str:
        return f"{self.filter} x{self.factor / self.divisor:.2f}"


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Additive noise."""

    kind: Literal["gaussian", "poisson"]
    level: float
    """Gaussian: standard deviation in 8-bit steps. Poisson: the published scale."""
    grey: bool

    def describe(self) -> str:
        return f"{'grey ' if self.grey else ''}{self.kind} {self.level:.1f}"


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """One JPEG round trip, 4:2:0."""

    quality: int
    shift: tuple[int, int] = (0, 0)
    """Rows and columns, 0 to 7, that stood above and left of the picture and were cut off after this compression: its
    8 x 8 blocks begin that far outside."""

    def __post_init__(self) -> None:
        if not all(0 <= shift < JPEG_BLOCK for shift in self.shift):
            raise ValueError(f"shift is {self.shift}, expected two numbers from 0 to {JPEG_BLOCK - 1}.")

    def describe(self) -> str:
        shifted = f" shifted {self.shift[0]}/{self.shift[1]}" if any(self.shift) else ""
        return f"jpeg {self.quality}{shifted}"


@dataclass(frozen=True, kw_only=True)
class WebCompression:
    """One WebP or AVIF round trip, lossy, 4:2:0."""

    codec: WebCodec
    quality: int

    def __post_init__(self) -> None:
        if self.codec not in get_args(WebCodec):
            raise ValueError(f"codec is {self.codec!r}, expected one of {', '.join(get_args(WebCodec))}.")

    def describe(self) -> str:
        return f"{self.codec} {self.quality}"


@dataclass(frozen=True, kw_only=True)
class Sharpen:
    """The sharpening that a camera does to its own picture: `x + amount (x - blur(x))`, with halos along edges."""

    sigma: float
    """Standard deviation of the Gaussian blur in pixels of the reduced picture."""
    amount: float

    def __post_init__(self) -> None:
        if self.sigma <= 0 or self.amount <= 0:
            raise ValueError(f"{self} does not sharpen: sigma and amount must be positive.")

    def describe(self) -> str:
        return f"sharpened {self.amount:.1f} at {self.sigma:.1f}"


Step = Blur | Resize | Noise | Jpeg | WebCompression | Sharpen


# Pixels -----------------------------------------------------------------------------------------------------


def blur_kernel(blur: Blur) -> Tensor:
    """(size_px, size_px) float32 kernel that sums to 1."""
    half = blur.size_px // 2
    axis = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    if blur.kind == "sinc":
        radius = torch.hypot(x, y)
        radius[half, half] = 1.0  # any value but 0: the limit is put in below
        kernel = blur.cutoff * torch.special.bessel_j1(blur.cutoff * radius) / (2 * math.pi * radius)
        kernel[half, half] = blur.cutoff**2 / (4 * math.pi)
        return normalized(kernel)
    cos, sin = math.cos(blur.angle), math.sin(blur.angle)
    q = ((cos * x + sin * y) / blur.sigma_x) ** 2 + ((cos * y - sin * x) / blur.sigma_y) ** 2
    if blur.kind.startswith("plateau"):
        kernel = 1 / (1 + q**blur.beta)
    elif blur.kind.startswith("generalized"):
        kernel = torch.exp(-0.5 * q**blur.beta)
    else:
        kernel = torch.exp(-0.5 * q)
    return normalized(kernel)


def normalized(kernel: Tensor) -> Tensor:
    """The kernel as float32, its sum 1."""
    return (kernel / kernel.sum()).float()


def trimmed(kernel: Tensor) -> Tensor:
    """The smallest centred odd square of a kernel that leaves out no more than NEGLIGIBLE of its absolute
    mass."""
    mass = kernel.abs()
    total, half = float(mass.sum()), kernel.shape[0] // 2
    for cut in range(half, 0, -1):
        inner = kernel[cut : kernel.shape[0] - cut, cut : kernel.shape[0] - cut]
        if total - float(inner.abs().sum()) <= NEGLIGIBLE * total:
            return normalized(inner)
    return kernel


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) float filtered by a (K, L) kernel, odd sides, the picture mirrored at its edges."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    channels = image.shape[1]
    weight = kernel.to(image).expand(channels, 1, *kernel.shape)
    return F.conv2d(reflect_pad(image, columns, columns, rows, rows), weight, groups=channels)


def gaussian_taps(size_px: int, sigma: float) -> Tensor:
    """(size_px,) float32 samples of a Gaussian that sum to 1."""
    axis = torch.arange(size_px, dtype=torch.float64) - size_px // 2
    return normalized(torch.exp(-0.5 * (axis / sigma) ** 2))


def resized(pixels: Tensor, step: Resize, height: int, width: int) -> Tensor:
    """Resize as the step says, for a clean picture of height x width. At its own size a picture is left
    alone."""
    size = step.size(height, width)
    if pixels.shape[-2:] == size:
        return pixels
    if step.filter == "area":
        return F.interpolate(pixels, size=size, mode="area")
    return F.interpolate(pixels, size=size, mode=step.filter, antialias=step.antialias, align_corners=False)


def noisy(pixels: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """Pixels in [0, 1] with noise, clamped to [0, 1]. The samples are drawn on the CPU, so devices agree."""
    source = pixels.cpu()
    if noise.kind == "gaussian":
        shape = (source.shape[0], 1 if noise.grey else 3, *source.shape[-2:])
        added = torch.randn(shape, generator=generator) * (noise.level / STEPS)
    else:
        source = (source * STEPS).round() / STEPS
        if noise.grey:
            source = (source * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
            source = (source * STEPS).round() / STEPS
        added = torch.cat([shot_noise(one, generator) for one in source.split(1)]) * noise.level
    return (pixels + added.to(pixels.device)).clamp(0, 1)


def shot_noise(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson noise around (1, C, H, W) pixels in [0, 1] that stand on 8-bit levels.

    White is as many counts as the picture has distinct levels, rounded up to a power of two, as published.
    """
    levels = torch.bincount((pixels * STEPS).round().flatten().int(), minlength=1).count_nonzero().item()
    counts = 2.0 ** math.ceil(math.log2(levels))
    return torch.poisson(pixels * counts, generator=generator) / counts - pixels


def compressed(pixels: Tensor, step: Jpeg | WebCompression) -> Tensor:
    """(B, 3, H, W) in [0, 1] after a round trip through the step's codec with 4:2:0 chroma."""
    if isinstance(step, WebCompression):
        return encoded(pixels, step.codec.upper(), quality=step.quality, **WEB_OPTIONS[step.codec])
    top, left = step.shift
    whole = reflect_pad(pixels, left, 0, top, 0)
    return encoded(whole, "JPEG", quality=step.quality, subsampling="4:2:0")[..., top:, left:]


def encoded(pixels: Tensor, file_format: str, **options: int | str) -> Tensor:
    """(B, 3, H, W) in [0, 1], each picture written by Pillow and read again. ValueError where the codec is missing."""
    results = []
    for one in pixels:
        with io.BytesIO() as file:
            try:
                Image.fromarray(to_array(one * 2 - 1)).save(file, format=file_format, **options)
            except KeyError:
                raise ValueError(
                    f"This Pillow cannot write {file_format}; install its own build (pip install pillow), "
                    "or train with a degradation that does without, such as real-esrgan."
                ) from None
            with Image.open(file) as decoded:
                samples = torch.from_numpy(np.array(decoded.convert("RGB")))  # (H, W, 3) uint8
        results.append(samples.permute(2, 0, 1).float() / STEPS)
    return torch.stack(results).to(pixels.device)


def sharpened(pixels: Tensor, step: Sharpen) -> Tensor:
    """Pixels in [0, 1] sharpened as the step says, clamped to [0, 1]."""
    taps = gaussian_taps(2 * math.ceil(3 * step.sigma) + 1, step.sigma)
    blurred = convolve(convolve(pixels, taps[None, :]), taps[:, None])
    return (pixels + step.amount * (pixels - blurred)).clamp(0, 1)


def sharpen(
    image: Tensor, size_px: int = 51, sigma: float = 8.0, weight: float = 0.5, threshold_steps: float = 10.0
) -> Tensor:
    """Unsharp masking, (B, 3, H, W) in [-1, 1] => the same: Real-ESRGAN's optional sharper target.

    `x + weight (x - blur(x))` where the difference is more than threshold_steps 8-bit steps, that mask being
    softened by the same Gaussian. Its published recipe makes the degraded input from the sharpened picture
    too, trains L1 and the perceptual loss on it, and the discriminator on the plain one.
    """
    taps = gaussian_taps(size_px, sigma)

    def smooth(x: Tensor) -> Tensor:
        return convolve(convolve(x, taps[None, :]), taps[:, None])

    difference = image - smooth(image)
    mask = smooth((difference.abs() > 2 * threshold_steps / STEPS).to(image.dtype))
    return torch.lerp(image, (image + weight * difference).clamp(-1, 1), mask)

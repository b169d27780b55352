"""The losses between pictures of arXiv 2602.10630, and two of our own, as pure functions.

Pictures are (B, 3, H, W) float in [-1, 1], latents (B, C, h, w). Each loss is a mean, a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.specs import PATCH
from training.losses.randpad import draw_offsets, randpad, unpad


def l1_loss(student: Tensor, target: Tensor) -> Tensor:
    """`|student - target|_1`."""
    return F.l1_loss(student, target)


def shift_loss(student: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, indices: Sequence[int], seed: int) -> Tensor:
    """`|y - crop(student(pad(x, p)))|_1`: how far a student's result depends on where the 8-pixel grid lies.

    `y` (B, 3, H, W) is what the student made of `x`; p is one offset a sample (`draw_offsets`, stream 6). The second
    result has no gradient: it costs a forward pass and keeps no activations. Over the steps its grid lies everywhere,
    so `y` is drawn to the mean over all offsets, in which no pattern of the grid is left. Not part of the paper.
    """
    offsets = draw_offsets(indices, seed, 6)
    with torch.no_grad():
        shifted = unpad(student(randpad(x, offsets)), offsets, *x.shape[-2:])
    return l1_loss(y, shifted.to(y.dtype))


@lru_cache(maxsize=16)
def harmonics_mask(height: int, width: int, radius: int) -> Tensor:
    """(H, W) bool: FFT bins within Chebyshev distance `radius`, wrapping, of an 8-pixel pattern's harmonics.

    The harmonics are `(k * H / 8, l * W / 8)`, k and l in 0..7, not both 0.
    """
    if height % PATCH or width % PATCH:
        raise ValueError(f"The MFS loss needs sides that are multiples of {PATCH}; got {height} x {width}.")
    mask = torch.zeros(height, width, dtype=torch.bool)
    reach = torch.arange(-radius, radius + 1)
    for k in range(PATCH):
        for m in range(PATCH):
            if k or m:
                rows = (k * height // PATCH + reach) % height
                columns = (m * width // PATCH + reach) % width
                mask[rows[:, None], columns[None, :]] = True
    return mask


def mfs_loss(student: Tensor, teacher: Tensor, radius: int = 1, sided: Literal["both", "above"] = "both") -> Tensor:
    """Masked Fourier space loss: `| M * (|F(y_stu)| - |F(y_tea)|) |_1`, mean over the mask's bins.

    F is the orthonormal FFT of each channel, M the bins of an 8-pixel pattern (`harmonics_mask`). With `sided` "above"
    only what the student has too much of counts, `relu(|F(y_stu)| - |F(y_tea)|)`: a student that is too smooth gains
    nothing by a pattern. That is not part of the paper. Raises ValueError unless H and W are multiples of 8. Computed
    in float32 whatever the input.
    """
    mask = harmonics_mask(student.shape[-2], student.shape[-1], radius).to(student.device)
    spectra = [torch.fft.fft2(y.float(), norm="ortho").abs()[..., mask] for y in (student, teacher)]
    difference = spectra[0] - spectra[1]
    return (F.relu(difference) if sided == "above" else difference.abs()).mean()


def harmonics_loss(student: Tensor, target: Tensor, radius: int = 1) -> Tensor:
    """`mean |M * F(student - target)|^2`: the squared error in MFS's bins, phase and all.

    MFS compares amplitudes, which a student that is too smooth can please by writing a pattern; here a pattern is an
    error like any other, and one that repeats is what is left of the error when chance has averaged out. Otherwise as
    `mfs_loss`. Not part of the paper.
    """
    mask = harmonics_mask(student.shape[-2], student.shape[-1], radius).to(student.device)
    return (
        torch.view_as_real(torch.fft.fft2((student - target).float(), norm="ortho")[..., mask]).square().sum(-1).mean()
    )

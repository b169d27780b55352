"""The losses of arXiv 2602.10630 as pure functions: tensors in, a scalar out. Means throughout.

Pictures are (B, 3, H, W) float in [-1, 1]; latents (B, C, h, w); logits, one tensor a head of the discriminator,
(B, ...) each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.image.resize import resize
from gendrpix.restore.guidance import crop, pad
from gendrpix.specs import PATCH, Offset


def l1_loss(student: Tensor, target: Tensor) -> Tensor:
    """`|student - target|_1`."""
    return F.l1_loss(student, target)


def generator_loss(fake_logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """`softplus(-Disc(y_stu))`: the non-saturating logistic loss of the generator.

    The mean over each head's logits, then over the heads: one of many places does not outvote the others. `weights`
    (B,) weighs the samples; the mean is over all of the batch, so that it splits over processes.
    """
    return torch.stack([_weighted_mean(F.softplus(-fake), weights) for fake in fake_logits]).mean()


def discriminator_loss(
    real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """`softplus(-Disc(real)) + softplus(Disc(fake))`: the logistic loss of the discriminator; means as above."""
    pairs = zip(real_logits, fake_logits, strict=True)
    return torch.stack([_weighted_mean(F.softplus(-real) + F.softplus(fake), weights) for real, fake in pairs]).mean()


def positives(negative: Tensor, negative_probability: float) -> Tensor:
    """(B,) bool => (B,) weights with which the discriminator sees the samples: 0 for those trained with `c_neg`.

    The others share the weight of the whole, so that the expected loss is the mean over them. It is no mean over the
    ones at hand: that would differ between processes, and would have no value in a batch without any.
    """
    return (~negative).float() / (1 - negative_probability)


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of (B, ...) values, each sample's multiplied by its weight."""
    return values.mean() if weights is None else (values.flatten(1).mean(1) * weights).mean()


def draw_offsets(indices: Iterable[int], seed: int, stream: int) -> list[Offset]:
    """One RandPad offset per sample, rows and columns uniform in 0..7.

    A function of (seed, global sample index, stream): real and fake use different streams, so they differ, and
    neither the number of processes nor a resume changes them.
    """
    offsets = []
    for index in indices:
        rows, columns = np.random.default_rng((seed, int(index), stream)).integers(0, PATCH, size=2)
        offsets.append((int(rows), int(columns)))
    return offsets


def draw_zoom(step: int, seed: int, zoom: tuple[float, float]) -> float:
    """One factor for all of a step, uniform in `zoom`: a function of (seed, step)."""
    return float(np.random.default_rng((seed, step, 3)).uniform(*zoom))


def draw_padding(step: int, indices: Sequence[int], seed: int, probability: float) -> list[Offset] | None:
    """Offsets by which the student sees a step's samples padded, or None where it sees them as they are.

    Which of the two is a function of (seed, step), with `probability` for the first; the offsets are `draw_offsets`'.
    """
    if np.random.default_rng((seed, step, 4)).random() >= probability:
        return None
    return draw_offsets(indices, seed, 5)


def zoomed(y: Tensor, factor: float) -> Tensor:
    """(B, 3, H, W) reduced by `factor`, 0 to 1, to sides of a multiple of 8, by the project's resizer; 1: as it is."""
    height, width = (PATCH * max(1, round(side * factor / PATCH)) for side in y.shape[-2:])
    return y if (height, width) == tuple(y.shape[-2:]) else resize(y, height, width)


def randpad(y: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """RandPad: (B, 3, H, W) => (B, 3, H+8, W+8), each sample padded by its own offset.

    Whatever looks at the result sees the 8-pixel grid of `y` at a random phase, so that it cannot judge, and the
    generator cannot please, by position in the grid.
    """
    if len(offsets) != y.shape[0]:
        raise ValueError(
            f"RandPad got {len(offsets)} offsets for a batch of {y.shape[0]}; expected one for each sample."
        )
    return torch.cat([pad(sample[None], offset) for sample, offset in zip(y, offsets, strict=True)])


def unpad(y: Tensor, offsets: Sequence[Offset], height: int, width: int) -> Tensor:
    """The inverse of `randpad`: (B, 3, H+8, W+8) => (B, 3, height, width)."""
    return torch.cat([crop(sample[None], offset, height, width) for sample, offset in zip(y, offsets, strict=True)])


def through_padding(
    student: Callable[[Tensor], Tensor], x: Tensor, step: int, indices: Sequence[int], seed: int, probability: float
) -> Tensor:
    """What the student makes of (B, 3, H, W), seen padded in a share of the steps (`draw_padding`): the same shape."""
    padding = draw_padding(step, indices, seed, probability)
    if padding is None:
        return student(x)
    return unpad(student(randpad(x, padding)), padding, *x.shape[-2:])


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

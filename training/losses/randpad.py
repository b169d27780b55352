"""RandPad: random offsets to the 8-pixel grid, and what is seen through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from gendrpix.image.resize import resize
from gendrpix.restore.guidance import crop, pad
from gendrpix.specs import PATCH, Offset


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

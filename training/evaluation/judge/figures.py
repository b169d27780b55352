"""Figures of a result without a truth: noise in calm places, and the distance to a reference's result.

Both are taken on luma (BT.601, full range, 0 to 255) of the picture as it is saved, in 8 bits. Averages over boxes
mirror the picture about its edge pixels.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gendrpix.image.resize import reflect_pad
from gendrpix.metrics.registry import METRICS

BLOCK_PX = 16
"""Side of the blocks among which calm places are looked for."""
CALM_SHARE = 0.2
"""Share of the blocks that count as calm."""
NOISE_BOX_PX = 5
DISTANCE_BOX_PX = 65
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
HEADINGS: Mapping[str, str] = {
    "noise": "Noise, levels",
    "distance": "Distance, levels",
    **{name: spec.heading for name, spec in METRICS.items()},
}
"""Figure => heading of its column."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The figures of one method's result for one photo."""

    method: str
    photo: str
    width_px: int
    height_px: int
    values: Mapping[str, float]
    """Figure => value: "noise", "distance" and metrics by name."""
    missing: Mapping[str, str]
    """Figure => the reason, in a sentence, why there is no value."""


def luma_of(image: Image.Image) -> Tensor:
    """An 8-bit picture's luma, (H, W) float64 in [0, 255]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).double()  # (H, W, 3)
    return pixels @ pixels.new_tensor(LUMA_WEIGHTS)


def box_mean(x: Tensor, side_px: int) -> Tensor:
    """(H, W) => (H, W): the mean over a box of `side_px`, an odd number, around each pixel."""
    half = side_px // 2
    padded = reflect_pad(x[None, None], half, half, half, half)
    columns = F.avg_pool2d(padded, (side_px, 1), stride=1)
    return F.avg_pool2d(columns, (1, side_px), stride=1)[0, 0]


def find_calm(reference: Tensor) -> Tensor:
    """Where the reference is calm: a mask (H // 16, W // 16) of the fifth of its blocks that vary least, at least one.

    reference: (H, W) luma in [0, 255]. A block's variation is the standard deviation within it; an incomplete block at
    the right or bottom does not count. Raises ValueError for a picture without a whole block.
    """
    height, width = reference.shape
    if min(height, width) < BLOCK_PX:
        raise ValueError(f"Noise needs at least {BLOCK_PX} pixels a side; got {width} x {height}. Take a larger photo.")
    variation = _blocks(reference).std(dim=-1, correction=0)  # (rows, columns)
    count = max(1, round(CALM_SHARE * variation.numel()))
    calm = torch.zeros(variation.numel(), dtype=torch.bool)
    calm[variation.flatten().argsort(stable=True)[:count]] = True
    return calm.view(variation.shape)


def noise_level(luma: Tensor, calm: Tensor) -> float:
    """The mean absolute deviation from a 5 x 5 mean within the calm blocks, in levels of 255.

    luma: (H, W) in [0, 255]. calm: the mask that `find_calm` gives for a picture of the same size.
    """
    deviation = (luma - box_mean(luma, NOISE_BOX_PX)).abs()
    return float(_blocks(deviation)[calm].mean())


def detail_distance(luma: Tensor, reference: Tensor) -> float:
    """The mean absolute difference of two pictures, each less its 65 x 65 mean, in levels of 255.

    luma, reference: (H, W) in [0, 255], of one size. Broad shifts of brightness do not count.
    """
    difference = luma - reference
    return float((difference - box_mean(difference, DISTANCE_BOX_PX)).abs().mean())


def _blocks(x: Tensor) -> Tensor:
    """(H, W) => (H // 16, W // 16, 256): the pixels of each whole block."""
    rows, columns = (side // BLOCK_PX for side in x.shape)
    whole = x[: rows * BLOCK_PX, : columns * BLOCK_PX]
    return whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX).permute(0, 2, 1, 3).flatten(2)


def medians(judgements: Iterable[Judgement], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Method => figure => median over the photos that have it, in the order in which the methods come."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in judgements:
        of_one = found.setdefault(one.method, {})
        for name in names:
            if name in one.values:
                of_one.setdefault(name, []).append(one.values[name])
    return {
        method: {name: statistics.median(values) for name, values in of_one.items()} for method, of_one in found.items()
    }

"""PadCFG: classifier-free guidance whose branches see the picture at different offsets to the 8-pixel grid.

    y = omega * G(pad(x, p_pos), c_pos) + (1 - omega) * G(pad(x, p_neg), c_neg)

after arXiv 2602.10630. A pixel-shuffle network leaves a faint pattern that repeats every 8 pixels; branches that
are shifted against each other leave it at different places, so that the guidance does not amplify it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gendrpix.image.resize import reflect_pad
from gendrpix.settings.checks import checked_offset
from gendrpix.specs import NEG_PAD, PATCH, POS_PAD, Offset

BatchPredictor = Callable[[Tensor, Tensor], Tensor]
"""(pixels (B, 3, H, W), prompts (B, L, D)) => pixels (B, 3, H, W)."""


class Branches(NamedTuple):
    """Both branches of a guided prediction, (B, 3, H, W) each, already cropped back to the picture."""

    positive: Tensor
    negative: Tensor


def pad(x: Tensor, offset: Offset) -> Tensor:
    """(B, 3, H, W) => (B, 3, H+8, W+8): `offset` rows above and columns left, the rest to 8 below and right.

    Reflection, repeated where the picture is smaller than the pad.
    """
    top, left = checked_offset("offset", offset)
    return reflect_pad(x, left, PATCH - left, top, PATCH - top)


def crop(y: Tensor, offset: Offset, height: int, width: int) -> Tensor:
    """The inverse of `pad`: (B, 3, H+8, W+8) => (B, 3, height, width)."""
    top, left = checked_offset("offset", offset)
    return y[..., top : top + height, left : left + width]


def mix(branches: Branches, omega: float) -> Tensor:
    """`omega * positive + (1 - omega) * negative`; linear, so moving omega needs no new prediction.

    At omega = 1 it is the positive branch itself, bit for bit.
    """
    if omega == 1.0:
        return branches.positive
    return omega * branches.positive + (1.0 - omega) * branches.negative


def predict_branches(
    predictor: BatchPredictor,
    x: Tensor,
    prompts: Tensor,
    *,
    pos_pad: Offset = POS_PAD,
    neg_pad: Offset = NEG_PAD,
    batched: bool = True,
) -> Branches:
    """PadCFG's two predictions on `x` (B, 3, H, W); `prompts` is (2, L, D), positive first.

    `batched` runs them as one batch (faster) instead of one after the other (less memory).
    """
    padded = (pad(x, pos_pad), pad(x, neg_pad))
    return _both(predictor, padded, prompts, (pos_pad, neg_pad), x.shape[-2:], batched)


def predict_plain_branches(predictor: BatchPredictor, x: Tensor, prompts: Tensor, *, batched: bool = True) -> Branches:
    """Plain classifier-free guidance: both branches see `x` unpadded."""
    return _both(predictor, (x, x), prompts, ((0, 0), (0, 0)), x.shape[-2:], batched)


def _both(
    predictor: BatchPredictor,
    inputs: tuple[Tensor, Tensor],
    prompts: Tensor,
    offsets: tuple[Offset, Offset],
    size: torch.Size,
    batched: bool,
) -> Branches:
    batch = inputs[0].shape[0]
    rows = [prompts[i : i + 1].expand(batch, -1, -1) for i in range(2)]
    if batched:
        outputs = predictor(torch.cat(inputs), torch.cat(rows)).chunk(2)
    else:
        outputs = tuple(predictor(x, row) for x, row in zip(inputs, rows, strict=True))
    height, width = size
    positive, negative = (crop(y, offset, height, width) for y, offset in zip(outputs, offsets, strict=True))
    return Branches(positive, negative)

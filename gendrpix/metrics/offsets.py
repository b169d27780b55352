"""The pattern of 8 pixels that PadCFG leaves, predicted for all offsets from the patterns of its two branches.

A branch of GenDR-Pix writes a faint pattern that follows the network's 8-pixel grid: on the mean over places, the
difference of its result and its input is m, an 8 x 8 picture. A picture that is padded by p rows and columns lies p
further in the grid, so that its pixel i meets the grid's pixel (i + p) mod 8. The mix of two branches leaves

    omega * roll(m_pos, -p_pos) + (1 - omega) * roll(m_neg, -p_neg)

m_pos and m_neg are those of the unpadded branches. The root of the mean square depends on p_pos - p_neg mod 8 alone: 64
differences, for which no further picture must be restored.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.specs import PATCH, Offset

LEVELS = 127.5
"""8-bit levels to one unit of pictures in [-1, 1]."""


def mean_pattern(restored: Tensor, given: Tensor) -> Tensor:
    """(3, 8, 8) float64: the mean over pictures and places of what was added to `given`, without each colour's mean.

    Both (B, 3, H, W) in [-1, 1], at least 8 pixels a side; rows and columns beyond multiples of 8 are left out. Row 0
    and column 0 are those of the pictures. Raises ValueError for smaller or unequal pictures.
    """
    if restored.shape != given.shape or min(restored.shape[-2:]) < PATCH:
        raise ValueError(
            f"Got pictures of {tuple(restored.shape)} and {tuple(given.shape)}; expected two of one size, at least "
            f"{PATCH} pixels a side."
        )
    height, width = (side - side % PATCH for side in restored.shape[-2:])
    added = (restored.double() - given.double())[..., :height, :width]
    folded = F.pixel_unshuffle(added, PATCH).mean(dim=(0, 2, 3)).view(-1, PATCH, PATCH)
    return folded - folded.mean(dim=(1, 2), keepdim=True)


def predict_pattern(positive: Tensor, negative: Tensor, omega: float, pos_pad: Offset, neg_pad: Offset) -> Tensor:
    """(..., 8, 8), the pattern that the mix leaves: `positive` and `negative` are the branches' own, unpadded."""
    rolled = (
        torch.roll(pattern, (-offset[0], -offset[1]), dims=(-2, -1))
        for pattern, offset in ((positive, pos_pad), (negative, neg_pad))
    )
    left, right = rolled
    return omega * left + (1 - omega) * right


def predicted_levels(positive: Tensor, negative: Tensor, omega: float) -> Tensor:
    """(..., 8, 8), for all differences p_pos - p_neg mod 8, of the patterns' root mean squares in 8-bit levels.

    `positive` and `negative` are (..., 3, 8, 8). Entry (0, 0) is plain guidance.
    """
    places = [(rows, columns) for rows in range(PATCH) for columns in range(PATCH)]
    levels = [pattern_levels(predict_pattern(positive, negative, omega, place, (0, 0))) for place in places]
    table: Tensor = torch.stack(levels, dim=-1).unflatten(-1, (PATCH, PATCH))
    return table


def pattern_levels(pattern: Tensor) -> Tensor:
    """(..., 3, 8, 8) patterns in [-1, 1] => their root mean squares over colours and places, in 8-bit levels."""
    return LEVELS * pattern.square().mean(dim=(-3, -2, -1)).sqrt()


def negative_offset(pos_pad: Offset, difference: Offset) -> Offset:
    """p_neg of a difference p_pos - p_neg mod 8."""
    return (pos_pad[0] - difference[0]) % PATCH, (pos_pad[1] - difference[1]) % PATCH


def offset_difference(pos_pad: Offset, neg_pad: Offset) -> Offset:
    """p_pos - p_neg mod 8."""
    return (pos_pad[0] - neg_pad[0]) % PATCH, (pos_pad[1] - neg_pad[1]) % PATCH

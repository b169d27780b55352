"""Taking away what repeats every 8 pixels, on maps of patches: `gendrpix.codecs.without_pattern` for one picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.codecs import WIDER
from gendrpix.specs import PATCH

TINY = float(torch.finfo(torch.float32).tiny)


def pattern_of(added: Tensor, tokens: int) -> Tensor:
    """The pattern in what a network has added, both (1, 192, h, w), the layout of a pixel-unshuffled picture.

    It is what `gendrpix.codecs.without_pattern` takes away over `tokens` x `tokens` patches.
    """
    detail = added - _spread_over_patch(_patch_mean(added))
    wide = _repeated(detail, WIDER * tokens)
    return wide + _repeated(detail - wide, tokens)


def _repeated(detail: Tensor, tokens: int) -> Tensor:
    """What the patches around each have in common beyond chance: (1, 192, h, w) => the same."""
    mean = _mean_around(detail, tokens)
    energy = _patch_mean(mean * mean)  # of squares: a 64th of the sum, as is the variance
    variance = (_mean_around(_patch_mean(detail * detail), tokens) - energy).clamp_min(0)
    by_chance = variance / _count_around(detail, tokens)
    kept = (1 - by_chance / energy.clamp_min(TINY)).clamp_min(0)
    return mean * _spread_over_patch(kept)


def _patch_mean(maps: Tensor) -> Tensor:
    """(1, 192, h, w) => (1, 3, h, w): the mean over a patch's 64 pixels, one a colour."""
    return torch.cat([part.mean(dim=1, keepdim=True) for part in maps.split(PATCH**2, dim=1)], dim=1)


def _spread_over_patch(maps: Tensor) -> Tensor:
    """(1, 3, h, w) => (1, 192, h, w): a number for all of a patch's 64 pixels."""
    return maps.repeat_interleave(PATCH**2, dim=1)


def _mean_around(maps: Tensor, tokens: int) -> Tensor:
    """The mean over `tokens` x `tokens` positions around each of (1, C, h, w), of those within the borders."""
    reach = tokens // 2
    maps = F.avg_pool2d(maps, (tokens, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(maps, (1, tokens), stride=1, padding=(0, reach), count_include_pad=False)


def _count_around(maps: Tensor, tokens: int) -> Tensor:
    """(1, 1, h, w): the numbers of positions that such a mean counts."""
    inside = maps[:, :1] * 0 + 1
    reach = tokens // 2
    rows = F.avg_pool2d(inside, (tokens, 1), stride=1, padding=(reach, 0), count_include_pad=True) * tokens
    return F.avg_pool2d(rows, (1, tokens), stride=1, padding=(0, reach), count_include_pad=True) * tokens

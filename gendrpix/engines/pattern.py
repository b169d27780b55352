"""Taking away what repeats every 8 pixels, on maps of patches.

It is `gendrpix.models.pattern.without_pattern` for one picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.models.pattern import WIDER
from gendrpix.specs import PATCH

TINY = float(torch.finfo(torch.float32).tiny)


def pattern_of(added: Tensor, tokens: int) -> Tensor:
    """The pattern in what a network has added, both (1, 192, h, w), the layout of a pixel-unshuffled picture.

    It is what `gendrpix.models.pattern.without_pattern` takes away over `tokens` x `tokens` patches.
    """
    height, width = added.shape[-2:]
    detail = added.reshape(3, PATCH**2, height, width)  # the colours are a batch of their own
    detail = detail - detail.mean(dim=1, keepdim=True)
    wide = _repeated(detail, WIDER * tokens)
    pattern = wide + _repeated(detail - wide, tokens)
    return pattern.reshape(1, 3 * PATCH**2, height, width)


def _repeated(detail: Tensor, tokens: int) -> Tensor:
    """What the patches around each have in common beyond chance: (3, 64, h, w) => the same."""
    mean = _mean_around(detail, tokens)
    energy = (mean * mean).mean(dim=1, keepdim=True)  # (3, 1, h, w); a 64th of the sum, as is the variance
    variance = (_mean_around((detail * detail).mean(dim=1, keepdim=True), tokens) - energy).clamp_min(0)
    by_chance = variance / _count_around(detail, tokens)
    return mean * (1 - by_chance / energy.clamp_min(TINY)).clamp_min(0)


def _mean_around(maps: Tensor, tokens: int) -> Tensor:
    """The mean over `tokens` x `tokens` positions around each of (1, C, h, w), of those within the borders."""
    reach = tokens // 2
    maps = F.avg_pool2d(maps, (tokens, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(maps, (1, tokens), stride=1, padding=(0, reach), count_include_pad=False)


def _count_around(maps: Tensor, tokens: int) -> Tensor:
    """(1, 1, h, w): the numbers of positions that such a mean counts."""
    inside = maps[:1, :1] * 0 + 1
    reach = tokens // 2
    rows = F.avg_pool2d(inside, (tokens, 1), stride=1, padding=(reach, 0), count_include_pad=True) * tokens
    return F.avg_pool2d(rows, (1, tokens), stride=1, padding=(0, reach), count_include_pad=True) * tokens

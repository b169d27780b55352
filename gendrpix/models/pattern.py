"""Removes a pattern that repeats with the patch from a restored picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.specs import PATCH

WIDER = 9
"""How many times as wide the neighbourhood is in which `without_pattern` looks first."""


def without_pattern(restored: Tensor, given: Tensor, tokens: int) -> Tensor:
    """A restored picture without what repeats every 8 pixels in all that the network has added to the one `given`.

    Both (B, 3, H, W) pixels, sides multiples of 8; so is the result. In each colour, the patches of 8 x 8 added pixels
    lose their mean brightness; what is then left on average over the `tokens` x `tokens` patches around each (fewer at
    the borders; `tokens` is odd) is a pattern of the network's making, or chance: real detail has such a mean as well,
    whose expected square is the patches' variance over their number. So the mean is shrunk as James and Stein do
    (1961), by `max(0, 1 - variance / number / |mean|^2)`, and taken away: first over a neighbourhood WIDER times as
    wide, which tells a faint pattern from chance where a large picture repeats it often, then of what that has left
    over the small one. With `tokens` 0 nothing is taken. Not part of the paper.
    """
    if not tokens:
        return restored
    added = F.pixel_unshuffle(restored - given, PATCH).unflatten(1, (3, PATCH**2)).permute(0, 3, 4, 1, 2).contiguous()
    added = added - added.mean(dim=-1, keepdim=True)  # (B, h, w, 3, 64)
    wide = _repeated(added, WIDER * tokens)
    pattern = wide + _repeated(added - wide, tokens)
    return restored - F.pixel_shuffle(pattern.permute(0, 3, 4, 1, 2).flatten(1, 2), PATCH)


def _repeated(added: Tensor, tokens: int) -> Tensor:
    """What `tokens` x `tokens` patches around each of (B, h, w, 3, 64) have in common beyond chance: the same shape."""
    mean: Tensor = _mean_around(added.flatten(3), tokens).unflatten(3, (3, PATCH**2))
    energy = torch.linalg.vecdot(mean, mean)  # (B, h, w, 3)
    variance = (_mean_around(torch.linalg.vecdot(added, added), tokens) - energy).clamp_min(0)
    rows, columns = (_count_around(size, tokens, energy.device) for size in energy.shape[1:3])
    by_chance = variance / (rows[:, None] * columns)[..., None]
    kept = (1 - by_chance / energy.clamp_min(torch.finfo(energy.dtype).tiny)).clamp_min(0)
    repeated: Tensor = mean * kept[..., None]
    return repeated


def _mean_around(maps: Tensor, tokens: int) -> Tensor:
    """The mean over `tokens` x `tokens` positions around each of (B, h, w, C), of those within the borders."""
    reach, maps = tokens // 2, maps.permute(0, 3, 1, 2)  # in channels-last order, where pooling is twenty times faster
    maps = F.avg_pool2d(maps, (tokens, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    maps = F.avg_pool2d(maps, (1, tokens), stride=1, padding=(0, reach), count_include_pad=False)
    return maps.permute(0, 2, 3, 1)


def _count_around(size: int, tokens: int, device: torch.device) -> Tensor:
    """(size,) the numbers of positions that such a mean counts along an axis."""
    places = torch.arange(size, device=device)
    return (places + tokens // 2).clamp_max(size - 1) - (places - tokens // 2).clamp_min(0) + 1

"""Self-attention in windows as one graph for any size: `gendrpix.models.attention`'s "auto" without its branches.

A picture of the size of training is one window as large as itself, whose far keys weigh nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gendrpix.models.attention import SAMPLED, SLACK, SPREAD


class AxisWindows(NamedTuple):
    """The windows along one axis of `size` positions; numbers, or tensors while a graph is traced."""

    count: int  # type: ignore[assignment]
    side: int
    starts: Tensor
    """(count,) int64: the first position that each window attends to."""
    owner: Tensor
    """(size,) int64: the window that gives each position its result."""
    inside: Tensor
    """(size,) int64: the position's place in that window."""


def windows_needed(size: int, window: int) -> int:
    """round(size / window), halves upwards; 1 up to the size of training."""
    many = (size > window + SLACK) * 1
    return 1 + many * ((2 * size + window) // (2 * window) - 1)


def plan_windows(size: int, needed: int, *, shifted: bool, like: Tensor) -> AxisWindows:
    """`gendrpix.models.attention.plan_axis` for a number of windows that the graph computes itself."""
    half = (needed > 1) * int(shifted)  # a single window is never shifted
    count = needed + half
    side = (size + needed - 1) // needed
    positions = torch.arange(size, device=like.device)
    borders = floor_divide((torch.arange(count, device=like.device) * 2 - half) * size, 2 * needed)
    starts = torch.minimum(borders.clamp(min=0), positions[-1] + 1 - side)
    owner = floor_divide(floor_divide(2 * needed * (positions + 1) - 1, size) + half, 2)
    return AxisWindows(count, side, starts, owner, positions - starts.index_select(0, owner))


def floor_divide(numbers: Tensor, by: int) -> Tensor:
    """Whole quotients of numbers that are not negative, or whose negative results are clamped to 0 afterwards."""
    return torch.div(numbers, by, rounding_mode="trunc")  # one operation in a file, where "floor" is a dozen


class WindowedAttention(nn.Module):
    """Self-attention of `gendrpix.models.attention.AutoProcessor`, or full attention where `window` is None."""

    def __init__(self, attn: Any, window: int | None, *, shifted: bool, sample: int | None) -> None:
        super().__init__()
        if attn.norm_q is not None or attn.norm_k is not None:
            raise ValueError("Attention with normalised queries cannot be exported; expected that of mini and sd21.")
        self.heads, self.window, self.shifted, self.sample = int(attn.heads), window, shifted, sample
        self.shares_high: Tensor
        self.shares_low: Tensor
        weight = torch.cat([attn.to_q.weight * float(attn.scale), attn.to_k.weight, attn.to_v.weight])
        self.project = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.project.weight.data = weight.detach().clone()
        self.out = attn.to_out[0]
        if window is not None and sample is not None:
            self.num_far = SAMPLED * window**2
            steps = torch.arange(self.num_far) + self.num_far * sample + 1
            shares = torch.stack([steps * step % 2**32 for step in SPREAD])
            self.register_buffer("shares_high", shares // 2**16)
            self.register_buffer("shares_low", shares % 2**16)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """(1, height * width, C) => the same."""
        # (1, N, 3 C) => (heads, N, d) each
        query, key, value = self.project(x)[0].unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3).unbind(0)
        mixed = self._attend(query, key, value, height, width)
        out: Tensor = self.out(mixed.transpose(0, 1).flatten(1)[None])
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, height: int, width: int) -> Tensor:
        """(heads, N, d) queries, keys and values => (heads, N, d)."""
        if self.window is None:
            return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        fits = (height * width <= (self.window + SLACK) ** 2) * 1  # a long strip of few positions is not cut either
        down, across = (1 + (1 - fits) * (windows_needed(size, self.window) - 1) for size in (height, width))
        rows = plan_windows(height, down, shifted=self.shifted, like=query)
        columns = plan_windows(width, across, shifted=self.shifted, like=query)
        tall = torch.arange(rows.side, device=query.device)
        wide = torch.arange(columns.side, device=query.device)
        # (down, across, tall, wide): where each window's positions lie in the picture
        lines = (rows.starts[:, None] + tall)[:, None, :, None] * width
        reads = (lines + (columns.starts[:, None] + wide)[:, None, :]).flatten()
        row_starts = (rows.owner * columns.count * rows.side + rows.inside) * columns.side
        writes = row_starts[:, None] + columns.owner * (rows.side * columns.side) + columns.inside
        windows, own = rows.count * columns.count, rows.side * columns.side
        heads = self.heads

        near_query, near_key, near_value = (
            maps.index_select(1, reads).reshape(heads, windows, own, -1) for maps in (query, key, value)
        )
        scores = near_query @ near_key.transpose(-2, -1)  # (heads, windows, own, own)
        if self.sample is None:
            mixed = scores.softmax(dim=-1) @ near_value
        else:
            places = self._far_places(height, width)
            far_key, far_value = key.index_select(1, places), value.index_select(1, places)  # (heads, F, d)
            stands_for = (
                ((height * width - own) * torch.ones(1, device=query.device) / self.num_far).clamp_min(1e-37).log()
            )
            far_scores = (
                near_query.flatten(1, 2) @ far_key.transpose(-2, -1) + stands_for
            )  # every query sees the same far keys
            joint = torch.cat((scores, far_scores.reshape(heads, windows, own, self.num_far)), dim=-1).softmax(dim=-1)
            far = joint[..., -self.num_far :].flatten(1, 2) @ far_value
            mixed = joint[..., : -self.num_far] @ near_value + far.reshape(heads, windows, own, -1)
        return mixed.flatten(1, 2).index_select(1, writes.flatten())

    def _far_places(self, height: int, width: int) -> Tensor:
        """(F,) int64: the positions of the far keys, as `gendrpix.models.attention.spread` chooses them.

        A share of 2^32 times the size, rounded down, in two halves of 16 bits: runtimes that hold indices in 32 bits
        compute it as well.
        """

        def place(axis: int, size: int) -> Tensor:
            low = floor_divide(self.shares_low[axis] * size, 2**16)
            return floor_divide(self.shares_high[axis] * size + low, 2**16)

        return place(0, height) * width + place(1, width)

"""Self-attention whose cost grows with the pixels, not with their square, for any diffusers UNet.

Full self-attention over n x n tokens costs n^4; a UNet trained on pictures of w x w tokens has never seen more than
w^2 keys. `window` gives every query the w x w window of keys around it, with the trained weights, untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional as F

AttentionKind = Literal["full", "window", "pooled", "auto"]


def set_attention(unet: UNet2DConditionModel, kind: str, window_tokens: Sequence[int]) -> None:
    """Choose how every self-attention of `unet` works, in place; cross-attention and all weights stay.

    - "full": diffusers' own scaled dot-product attention
    - "window": equal windows near `window_tokens[level]` a side, every second block's shifted by half a window;
      up to a token more than the window it is "full", exactly
    - "pooled": all queries, keys and values averaged down to at most `window_tokens[level]` a side
    - "auto": what is fastest without a visible loss: "window", which is full up to the trained size

    `window_tokens` has the side for each resolution level, the finest first.
    """
    if kind not in get_args(AttentionKind):
        raise ValueError(f"attention is {kind!r}, expected one of {', '.join(get_args(AttentionKind))}.")
    levels = len(unet.config.block_out_channels)
    if len(window_tokens) != levels:
        raise ValueError(f"window_tokens has {len(window_tokens)} sides, expected one for each of {levels} levels.")
    for number, (level, transformer, attention) in enumerate(_self_attentions(unet)):
        for hook in list(transformer._forward_pre_hooks):
            if isinstance(transformer._forward_pre_hooks[hook], _Grid):
                del transformer._forward_pre_hooks[hook]
        if kind == "full":
            attention.set_processor(AttnProcessor2_0())
            continue
        grid = _Grid()
        transformer.register_forward_pre_hook(grid)
        side = window_tokens[level]
        if kind == "pooled":
            attention.set_processor(PooledAttention(grid, side))
        else:
            attention.set_processor(WindowAttention(grid, side, shifted=bool(number % 2)))


def _self_attentions(unet: UNet2DConditionModel) -> Iterator[tuple[int, nn.Module, Any]]:
    """(level, Transformer2DModel, its self-attention) from input to output; one entry a transformer block."""
    levels = len(unet.config.block_out_channels)
    blocks = [(level, block) for level, block in enumerate(unet.down_blocks)]
    blocks.append((levels - 1, unet.mid_block))
    blocks += [(levels - 1 - i, block) for i, block in enumerate(unet.up_blocks)]
    for level, block in blocks:
        for transformer in getattr(block, "attentions", None) or []:
            for inner in transformer.transformer_blocks:
                yield level, transformer, inner.attn1


class _Grid:
    """Remembers the height and width of the tokens that a transformer was given; attention sees only their number."""

    def __init__(self) -> None:
        self.height = self.width = 0

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.height, self.width = args[0].shape[-2:]


class PooledAttention:
    """Queries in full; keys and values averaged over equal areas, at most `side` x `side` of them."""

    def __init__(self, grid: _Grid, side: int) -> None:
        self.grid, self.side = grid, side

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B, H * W, C) => (B, H * W, C)."""
        height, width = self.grid.height, self.grid.width
        tokens = hidden_states
        if height > self.side + 1 or width > self.side + 1:
            areas = (min(height, self.side), min(width, self.side))
            picture = hidden_states.transpose(1, 2).unflatten(2, (height, width))  # (B, C, H, W)
            tokens = F.adaptive_avg_pool2d(picture, areas).flatten(2).transpose(1, 2)
        return _attend(attn, hidden_states, tokens)


class WindowAttention:
    """Windows of one size that cover the picture; where they overlap, a token belongs to the nearest centre.

    No padding and no mask: a window at the edge, or between two others where the sides do not divide, reaches over
    its neighbour's tokens as keys instead. All windows are one batch of one attention call.
    """

    def __init__(self, grid: _Grid, side: int, *, shifted: bool) -> None:
        self.grid, self.side, self.shifted = grid, side, shifted

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B, H * W, C) => (B, H * W, C)."""
        height, width = self.grid.height, self.grid.width
        rows, columns = plan_windows(height, self.side, self.shifted), plan_windows(width, self.side, self.shifted)
        if rows.count == columns.count == 1:
            return _attend(attn, hidden_states, hidden_states)
        batch, _, channels = hidden_states.shape
        device = hidden_states.device
        picture = hidden_states.unflatten(1, (height, width))
        gathered = picture[:, rows.gather.to(device)][:, :, columns.gather.to(device)]
        # (B, rows * side, columns * side, C) => (B * rows * columns, side * side, C)
        windows = gathered.view(batch, rows.count, rows.side, columns.count, columns.side, channels)
        windows = windows.transpose(2, 3).flatten(3, 4).flatten(0, 2)
        attended = _attend(attn, windows, windows)
        # and back
        attended = attended.view(batch, rows.count, columns.count, rows.side, columns.side, channels)
        attended = attended.transpose(2, 3).reshape(batch, rows.count * rows.side, columns.count * columns.side, -1)
        return attended[:, rows.scatter.to(device)][:, :, columns.scatter.to(device)].flatten(1, 2)


class AxisWindows:
    """How one axis is cut: `count` windows of `side` tokens, where they start, and the way there and back."""

    def __init__(self, length: int, side: int, starts: Sequence[int]) -> None:
        self.side, self.count, self.starts = side, len(starts), tuple(starts)
        places = torch.tensor(starts)[:, None] + torch.arange(side)  # (count, side)
        self.gather = places.flatten()
        tokens = torch.arange(length)
        centres = torch.tensor(starts) + (side - 1) / 2
        owner = (tokens[:, None] - centres).abs().argmin(dim=1)
        self.scatter = owner * side + tokens - torch.tensor(starts)[owner]


@lru_cache(maxsize=256)
def plan_windows(length: int, side: int, shifted: bool) -> AxisWindows:
    """round(length / side) windows, as equal as the length allows; shifted ones start half a window earlier.

    One window up to a token more than `side` (PadCFG's padding adds one), and wherever rounding gives one.
    """
    count = max(1, int(length / side + 0.5))
    if length <= side + 1 or count == 1:
        return AxisWindows(length, length, [0])
    size = -(-length // count)
    last = length - size
    if shifted:
        starts = [min(max(0, int((i - 0.5) * length / count + 0.5)), last) for i in range(count + 1)]
    else:
        starts = [round(i * last / (count - 1)) for i in range(count)]
    return AxisWindows(length, size, starts)


def _attend(attn: Any, queries: Tensor, keys: Tensor) -> Tensor:
    """diffusers' attention of `queries` (B, N, C) to `keys` (B, M, C) with the module's weights => (B, N, C)."""
    heads = attn.heads
    query, key, value = (
        project(tokens).unflatten(2, (heads, -1)).transpose(1, 2)  # (B, heads, tokens, C / heads)
        for project, tokens in ((attn.to_q, queries), (attn.to_k, keys), (attn.to_v, keys))
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    output: Tensor = attn.to_out[1](attn.to_out[0](mixed))
    return output

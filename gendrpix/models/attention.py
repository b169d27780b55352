"""Self-attention whose cost grows with the pixels, not with their square, for any diffusers UNet.

The UNet was trained on a few thousand positions; at 4K it meets 30 times as many, and full self-attention is then
85% of the work. Up to the size of training every kind here computes full attention, exactly.

- "full":   diffusers' own processor.
- "window": every position attends to one window of about the size of training. Blocks alternate between two layouts
            that are half a window apart, so that no seam repeats.
- "pooled": every position attends to the whole picture, average-pooled to at most the size of training (token
            down-sampling, arXiv 2402.13573).
- "auto":   "full" while there are no more positions than in training, "window" above.

With `far`, windows see the rest of the picture too, by a sample of it: the keys of twice as many positions as a window
has, spread over the picture, each weighted with the number of those that it stands for. The sample is another one in
each block, so that what chance does to one is not repeated by the next. The work still grows with the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, FusedAttnProcessor2_0
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.specs import ModelSpec

AttentionKind = Literal["full", "window", "pooled", "auto"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)

SLACK = 1
"""Positions per axis beyond the window that still count as the size of training: PadCFG's 8 pixels add one."""
SAMPLED = 2
"""Far positions for each of a window's own: where it was chosen, 1 lost 0.047 dB at 1536 pixels and 2 nothing
(docs/performance)."""
SPREAD = (3242174889, 2447445414)
"""2^32 / g and 2^32 / g^2 for g^3 = g + 1: multiples of both, modulo 2^32, cover a square evenly and in no rhythm that
the network's own halvings could share (the R2 sequence)."""


def set_attention(unet: UNet2DConditionModel, kind: str, window_tokens: Sequence[int], *, far: bool = False) -> None:
    """Choose how every self-attention of `unet` works, in place; cross-attention and every weight are untouched.

    `window_tokens` is the side, in positions, of the field seen in training, one per resolution level, the finest
    first (sd21: 64, 32, 16, 8); the middle block has the last. `far`: windows see a sample of the rest as well.
    May be called again at any time; "full" removes all that another kind has put in. `unet.fuse_qkv_projections()`
    sets processors of its own: call it first.
    Raises ValueError for an unknown kind and for windows that do not fit the UNet.
    """
    if kind not in ATTENTION_KINDS:
        raise ValueError(f"attention is {kind!r}, expected one of {', '.join(ATTENTION_KINDS)}.")
    levels = len(unet.down_blocks)
    if len(window_tokens) != levels:
        raise ValueError(f"window_tokens has {len(window_tokens)} sides, expected one for each of {levels} levels.")
    if min(window_tokens) < 1:
        raise ValueError(f"window_tokens is {tuple(window_tokens)}, expected sides of at least 1.")
    seen = [0] * levels
    for level, transformer in _transformers(unet):
        _stop_sending_grid(transformer)
        if kind != "full":
            _start_sending_grid(transformer)
        for block in transformer.transformer_blocks:
            if block.only_cross_attention:
                continue
            number = seen[level]
            seen[level] += 1
            block.attn1.set_processor(_build_processor(kind, block.attn1, window_tokens[level], number, far))


def attend_as(spec: ModelSpec, unet: UNet2DConditionModel, kind: str = "auto") -> None:
    """`set_attention` with the windows of a model family: in training, too, attention works as it will be used."""
    set_attention(unet, kind, spec.window_tokens, far=spec.window_sees_far)


def _build_processor(kind: str, attn: nn.Module, window: int, number: int, far: bool) -> Any:
    if kind == "full":
        return _own_processor(attn)
    if kind == "pooled":
        return PooledProcessor(window)
    cut = AutoProcessor if kind == "auto" else WindowProcessor
    return cut(window, shifted=number % 2 == 1, sample=number if far else None)


def _own_processor(attn: Any) -> Any:
    """What diffusers itself would use."""
    return FusedAttnProcessor2_0() if attn.fused_projections else AttnProcessor2_0()


def _transformers(unet: UNet2DConditionModel) -> Iterator[tuple[int, Transformer2DModel]]:
    """(level, spatial transformer) in the order in which they run; level 0 has the most positions."""
    deepest = len(unet.down_blocks) - 1
    ordered = [
        *enumerate(unet.down_blocks),
        (deepest, unet.mid_block),
        *((deepest - index, block) for index, block in enumerate(unet.up_blocks)),
    ]
    for level, block in ordered:
        for module in block.modules() if block is not None else ():
            if isinstance(module, Transformer2DModel):
                yield level, module


# Telling a processor the height and width ------------------------------------------------------------------------
# A processor sees (B, N, C) only. A hook on the spatial transformer, which sees (B, C, H, W), adds the grid to the
# arguments of its blocks: nothing is stored between calls, so checkpointing, compilation and copies stay correct.


def _start_sending_grid(transformer: Any) -> None:
    hooks = [transformer.register_forward_pre_hook(_add_grid, with_kwargs=True)]
    crossed = (block.attn2 for block in transformer.transformer_blocks if block.attn2 is not None)
    hooks += [attn.register_forward_pre_hook(_drop_grid, with_kwargs=True) for attn in crossed]
    transformer.grid_hooks = hooks


def _stop_sending_grid(transformer: Any) -> None:
    for hook in getattr(transformer, "grid_hooks", ()):
        hook.remove()
    transformer.grid_hooks = []


def _add_grid(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    hidden = args[0] if args else kwargs["hidden_states"]
    given = kwargs.get("cross_attention_kwargs") or {}
    return args, {**kwargs, "cross_attention_kwargs": {**given, "grid": tuple(hidden.shape[-2:])}}


def _drop_grid(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {name: value for name, value in kwargs.items() if name != "grid"}


# Processors --------------------------------------------------------------------------------------------------------


class GridProcessor:
    """A self-attention processor that knows the picture's height and width in positions."""

    def __init__(self, window: int) -> None:
        self.window = window

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, H * W, C) => the same, for `grid` = (H, W). Raises ValueError without a grid that fits."""
        if grid is None or hidden_states.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"The grid is {grid} for {hidden_states.shape[1]} positions; choose the attention with set_attention, "
                "which tells the processors the height and width."
            )
        if self.is_whole(*grid):
            whole: Tensor = _own_processor(attn)(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return whole
        if attention_mask is not None:
            raise ValueError("Got an attention mask, which only the attention 'full' can apply: choose that, or none.")
        mixed = self.attend(attn, hidden_states, *grid)
        projected: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        if attn.residual_connection:
            projected = projected + hidden_states
        scaled: Tensor = projected / attn.rescale_output_factor
        return scaled

    def is_whole(self, height: int, width: int) -> bool:
        """Whether a picture of that size is attended to in full."""
        raise NotImplementedError

    def attend(self, attn: Any, x: Tensor, height: int, width: int) -> Tensor:
        """(B, H * W, C) => the attended values, heads concatenated, before the output's projection."""
        raise NotImplementedError


class WindowProcessor(GridProcessor):
    """Attention within windows; `shifted` puts their borders half a window further.

    sample: which sample of the picture the windows see besides themselves; None for none.
    """

    def __init__(self, window: int, *, shifted: bool, sample: int | None = None) -> None:
        super().__init__(window)
        self.shifted = shifted
        self.sample = sample

    def is_whole(self, height: int, width: int) -> bool:
        """One window on both axes, which holds up to SLACK positions more than the window in any case."""
        return _count_windows(height, self.window) == 1 and _count_windows(width, self.window) == 1

    def attend(self, attn: Any, x: Tensor, height: int, width: int) -> Tensor:
        """One batched attention over all windows: all have one size, so there is nothing to mask."""
        rows = plan_axis(height, self.window, shifted=self.shifted, device=x.device)
        columns = plan_axis(width, self.window, shifted=self.shifted, device=x.device)
        batch, (down, tall), (across, wide) = x.shape[0], rows.reads.shape, columns.reads.shape
        # Where each window's positions lie in the picture: (down, across, tall, wide)
        reads = rows.reads[:, None, :, None] * width + columns.reads[:, None, :]
        # Where each of the picture's positions lies in the windows: (H,) and (W,) => (H, W)
        row_starts = (rows.owner * across * tall + rows.inside) * wide
        writes = row_starts[:, None] + columns.owner * (tall * wide) + columns.inside

        def cut(tokens: Tensor) -> Tensor:  # (B, H * W, C) => (B * windows, tall * wide, C)
            return tokens.index_select(1, reads.flatten()).view(batch * down * across, tall * wide, -1)

        places = weights = None
        if self.sample is not None:
            places = spread(height, width, SAMPLED * self.window**2, self.sample, device=x.device)
            stands_for = x.new_full((1,), (height * width - tall * wide) / len(places)).expand(len(places))
            weights = torch.cat([x.new_ones(tall * wide), stands_for])

        def seen(tokens: Tensor) -> Tensor:  # (B, H * W, C) => (B * windows, tall * wide and places, C)
            near = cut(tokens)
            if places is None:
                return near
            far = tokens.index_select(1, places)[:, None].expand(-1, down * across, -1, -1)
            return torch.cat([near.unflatten(0, (batch, -1)), far], dim=2).flatten(0, 1)

        query, key, value = _project(attn, x)
        query = cut(query)  # one after the other: what was uncut is freed at once
        key = seen(key)
        value = seen(value)
        mixed = _attend(attn, query, key, value, weights)  # (B * windows, tall * wide, C)
        return mixed.view(batch, down * across * tall * wide, -1).index_select(1, writes.flatten())


class AutoProcessor(WindowProcessor):
    """Full attention while the picture has no more positions than in training, whatever its shape; else windows."""

    def is_whole(self, height: int, width: int) -> bool:
        """A long strip of few positions is not cut either."""
        return height * width <= (self.window + SLACK) ** 2 or super().is_whole(height, width)


class PooledProcessor(GridProcessor):
    """Full queries; keys and values of the average-pooled picture, at most `window` positions on each axis."""

    def is_whole(self, height: int, width: int) -> bool:
        """No axis is longer than in training."""
        return max(height, width) <= self.window + SLACK

    def attend(self, attn: Any, x: Tensor, height: int, width: int) -> Tensor:
        """The hidden states are pooled before their projection, which is the same as after it, and less work."""
        picture = x.transpose(1, 2).unflatten(2, (height, width))
        pooled = F.adaptive_avg_pool2d(picture, (min(height, self.window), min(width, self.window)))
        coarse = pooled.flatten(2).transpose(1, 2)  # (B, at most window ** 2, C)
        return _attend(attn, attn.to_q(x), attn.to_k(coarse), attn.to_v(coarse))


def _project(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, C) hidden states => queries, keys and values."""
    if attn.fused_projections:
        query, key, value = attn.to_qkv(x).chunk(3, dim=-1)
        return query, key, value
    return attn.to_q(x), attn.to_k(x), attn.to_v(x)


def _attend(attn: Any, query: Tensor, key: Tensor, value: Tensor, weights: Tensor | None = None) -> Tensor:
    """Multi-head attention of (B, N, C) queries to (B, M, C) keys and values => (B, N, C).

    weights: (M,), how many keys each one stands for; None for one each.
    """
    query, key, value = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, key, value))
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    counted = None if weights is None else weights.log().to(query.dtype).expand(1, 1, query.shape[2], -1)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=counted)
    return mixed.transpose(1, 2).flatten(2).to(query.dtype)


def spread(height: int, width: int, count: int, sample: int, device: torch.device | str = "cpu") -> Tensor:
    """(count,) int64: positions of a picture, evenly spread; each `sample`, 0, 1, ..., goes on where the last ended."""
    steps = torch.arange(count, device=device) + count * sample + 1
    rows, columns = ((steps * step % 2**32) * size // 2**32 for step, size in zip(SPREAD, (height, width), strict=True))
    return rows * width + columns


# Windows along one axis --------------------------------------------------------------------------------------------


class AxisPlan(NamedTuple):
    """The windows along one axis of `size` positions."""

    reads: Tensor
    """(windows, side) int64: the positions that each window attends to."""
    owner: Tensor
    """(size,) int64: the window that gives each position its result."""
    inside: Tensor
    """(size,) int64: the position's place in that window."""


def plan_axis(size: int, window: int, *, shifted: bool, device: torch.device | str = "cpu") -> AxisPlan:
    """round(size / window) windows, as equal as the size allows; `shifted` moves their borders by half of one.

    Window i owns the positions from `i * size // count` on; shifted, the borders lie at `(i - 1/2) * size / count`,
    rounded down, and a half is left over at each end. Windows that own less than the longest attend to neighbours
    within the picture instead of padding, so every position sees `side` real ones and none across opposite ends.
    Computed on the device at every call: cached indices would be inference tensors, or traced ones, later.
    """
    count = _count_windows(size, window)
    side = (size + count - 1) // count
    positions = torch.arange(size, device=device)
    if shifted and count > 1:
        borders = (torch.arange(count + 1, device=device) * 2 - 1) * size // (2 * count)
        owner = ((2 * count * (positions + 1) - 1) // size + 1) // 2
    else:
        borders = torch.arange(count, device=device) * size // count
        owner = ((positions + 1) * count - 1) // size
    starts = borders.clamp(0, size - side)
    return AxisPlan(
        reads=starts[:, None] + torch.arange(side, device=device), owner=owner, inside=positions - starts[owner]
    )


def window_borders(size: int, window: int, *, shifted: bool) -> list[int]:
    """The positions along an axis that belong to another window than the one before them."""
    owner = plan_axis(size, window, shifted=shifted).owner
    return [int(position) + 1 for position in owner.diff().nonzero()]


def _count_windows(size: int, window: int) -> int:
    """round(size / window), halves upwards, one up to SLACK more than the window; in integers: sizes may be symbols."""
    return 1 if size <= window + SLACK else (2 * size + window) // (2 * window)

"""Attention kinds against full attention, naive loops over windows, and what a seam looks like."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, FusedAttnProcessor2_0
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gendrpix.metrics.grid import seam_score
from gendrpix.models.attention import (
    ATTENTION_KINDS,
    AutoProcessor,
    PooledProcessor,
    WindowProcessor,
    plan_axis,
    set_attention,
    spread,
    window_borders,
)
from gendrpix.models.networks import build_unet
from tests.helpers.models import TINY

WINDOWS = TINY.window_tokens  # (8, 4)
SCALABLE = [kind for kind in ATTENTION_KINDS if kind != "full"]


@pytest.fixture
def unet() -> UNet2DConditionModel:
    """Sharp attention: the random queries are enlarged, so that a wrong key shows."""
    torch.manual_seed(0)
    built = build_unet(TINY, 6, 6).eval()
    for name, parameter in built.named_parameters():
        if "attn1.to_q" in name or "attn1.to_out.0.weight" in name:
            parameter.data.mul_(4)
    return built


def run(unet: UNet2DConditionModel, height: int, width: int, kind: str | None = None, batch: int = 1) -> Tensor:
    """The UNet's output on a seeded picture, with that attention; None leaves the UNet as it is."""
    if kind is not None:
        set_attention(unet, kind, WINDOWS)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(batch, 6, height, width, generator=generator)
    prompt = torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels, generator=generator).expand(batch, -1, -1)
    with torch.no_grad():
        return unet(hidden, 500, prompt).sample


@pytest.fixture
def attn() -> Attention:
    torch.manual_seed(0)
    built = Attention(query_dim=12, heads=3, dim_head=4)
    built.to_q.weight.data.mul_(4)
    return built


def full(attn: Attention, queries: Tensor, keys: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, head by head, projected: (N, C), (M, C) => (N, C)."""
    results = []
    for q, k, v in zip(
        attn.to_q(queries).chunk(3, -1), attn.to_k(keys).chunk(3, -1), attn.to_v(keys).chunk(3, -1), strict=True
    ):
        results.append(torch.softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) @ v)
    return attn.to_out[0](torch.cat(results, dim=-1))


def spans(size: int, window: int, shifted: bool) -> list[tuple[range, range]]:
    """(positions owned, positions attended to) of each window along an axis, written out by hand."""
    count = 1 if size <= window + 1 else int(size / window + 0.5)
    side = -(-size // count)
    borders = [i * size // count for i in range(count + 1)]
    if shifted and count > 1:
        borders = [0, *((2 * i - 1) * size // (2 * count) for i in range(1, count + 1)), size]
    pairs = []
    for first, last in pairwise(borders):
        start = min(first, size - side)
        pairs.append((range(first, last), range(start, start + side)))
    return pairs


def naive_windows(attn: Attention, picture: Tensor, window: int, shifted: bool) -> Tensor:
    """(H, W, C) => (H, W, C): a loop over the windows."""
    height, width, channels = picture.shape
    result = torch.full_like(picture, torch.nan)
    for own_rows, rows in spans(height, window, shifted):
        for own_columns, columns in spans(width, window, shifted):
            owned = picture[own_rows.start : own_rows.stop, own_columns.start : own_columns.stop]
            seen = picture[rows.start : rows.stop, columns.start : columns.stop]
            mixed = full(attn, owned.reshape(-1, channels), seen.reshape(-1, channels))
            result[own_rows.start : own_rows.stop, own_columns.start : own_columns.stop] = mixed.view_as(owned)
    return result


# Equality with full attention --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCALABLE)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 9), (9, 8), (5, 7), (1, 3)])
def test_up_to_the_window_and_one_more_every_kind_is_full(
    unet: UNet2DConditionModel, kind: str, height: int, width: int
) -> None:
    assert torch.equal(run(unet, height, width, kind), run(unet, height, width, "full"))


@pytest.mark.parametrize("kind", SCALABLE)
def test_above_the_window_they_differ(unet: UNet2DConditionModel, kind: str) -> None:
    assert not torch.allclose(run(unet, 24, 24, kind), run(unet, 24, 24, "full"), atol=1e-3)


def test_auto_is_full_up_to_the_count_of_training_and_window_above(unet: UNet2DConditionModel) -> None:
    strip = run(unet, 4, 20, "auto")  # 80 positions of 81; at half the size 20 of 25
    assert torch.equal(strip, run(unet, 4, 20, "full"))
    assert not torch.allclose(strip, run(unet, 4, 20, "window"), atol=1e-3)
    assert torch.equal(run(unet, 20, 24, "auto"), run(unet, 20, 24, "window"))


def test_the_papers_levels_are_whole_with_padcfg() -> None:
    """64 positions and PadCFG's 65, then 33, 17 and 9 after three halvings."""
    for window, size in ((64, 65), (32, 33), (16, 17), (8, 9)):
        for processor in (WindowProcessor(window, shifted=True), AutoProcessor(window, shifted=True)):
            assert processor.is_whole(size, size) and not processor.is_whole(2 * size, size)
        assert PooledProcessor(window).is_whole(size, size) and not PooledProcessor(window).is_whole(size + 1, size)


# Windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (9, 33), (6, 13), (40, 3)])
def test_windows_match_a_loop(attn: Attention, height: int, width: int, shifted: bool) -> None:
    pictures = torch.randn(2, height, width, 12)
    processor = WindowProcessor(4, shifted=shifted)
    got = processor(attn, pictures.flatten(1, 2), grid=(height, width)).view_as(pictures)
    expected = torch.stack([naive_windows(attn, picture, 4, shifted) for picture in pictures])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (6, 13)])
def test_windows_that_see_far_match_a_loop(attn: Attention, height: int, width: int, shifted: bool) -> None:
    """A key that stands for w others adds w times its exponential: here as w copies of it, with whole numbers."""
    picture = torch.randn(height, width, 12)
    processor = WindowProcessor(4, shifted=shifted, sample=3)
    got = processor(attn, picture.flatten(0, 1)[None], grid=(height, width)).view_as(picture)
    places = spread(height, width, 32, 3)
    q, k, v = (project(picture.flatten(0, 1)).unflatten(-1, (3, 4)) for project in (attn.to_q, attn.to_k, attn.to_v))
    rows, columns = (spans(size, 4, shifted) for size in (height, width))
    for own_rows, seen_rows in rows:
        for own_columns, seen_columns in columns:
            near = [row * width + column for row in seen_rows for column in seen_columns]
            weight = torch.tensor([1.0] * len(near) + [(height * width - len(near)) / 32] * 32)
            keys = torch.tensor(near + places.tolist())
            for row in own_rows:
                for column in own_columns:
                    scores = torch.einsum("hc,nhc->nh", q[row * width + column], k[keys]) / 2
                    shares = scores.exp() * weight[:, None]
                    mixed = torch.einsum("nh,nhc->hc", shares / shares.sum(0), v[keys])
                    expected = attn.to_out[0](mixed.flatten())
                    torch.testing.assert_close(got[row, column], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (96, 61), (24, 200)])
def test_a_sample_is_spread_evenly_and_the_next_is_another(height: int, width: int) -> None:
    places = [spread(height, width, 256, sample) for sample in range(3)]
    for one in places:
        assert one.shape == (256,) and int(one.min()) >= 0 and int(one.max()) < height * width
        rows, columns = one // width, one % width
        for axis, size in ((rows, height), (columns, width)):
            halves = torch.bincount(axis * 4 // size, minlength=4)
            assert halves.min() > 256 / 4 * 0.8 and halves.max() < 256 / 4 * 1.2, halves
            phases = torch.bincount(axis % 4, minlength=4)  # of the network's own halvings
            assert size % 4 or (phases.min() > 40 and phases.max() < 90), phases
    assert not torch.equal(places[0].sort().values, places[1].sort().values)


@given(size=st.integers(1, 300), window=st.integers(4, 64), shifted=st.booleans())
def test_an_axis_is_covered_by_windows_of_nearly_one_size(size: int, window: int, shifted: bool) -> None:
    plan = plan_axis(size, window, shifted=shifted)
    windows, side = plan.reads.shape
    count = 1 if size <= window + 1 else int(size / window + 0.5)
    assert windows == count + (shifted and count > 1) and side == -(-size // count)
    assert plan.reads.min() == 0 and plan.reads.max() == size - 1  # none beyond the picture, none across its ends
    assert torch.equal(plan.reads[plan.owner, plan.inside], torch.arange(size))
    owned = plan.owner.bincount(minlength=windows)
    inner = owned[1:-1] if windows > count else owned
    assert owned.min() > 0 and (inner.numel() == 0 or inner.max() - inner.min() <= 1)


def test_the_two_layouts_share_no_border() -> None:
    for size in (16, 31, 100, 360, 541):
        cuts = [
            set((plan_axis(size, 8, shifted=shifted).owner.diff() > 0).nonzero().flatten().tolist())
            for shifted in (False, True)
        ]
        nearest = min(abs(a - b) for a in cuts[0] for b in cuts[1])
        assert nearest >= 3  # half of 8, less the rounding


@pytest.mark.parametrize("shifted", [False, True])
def test_opposite_ends_do_not_see_each_other(attn: Attention, shifted: bool) -> None:
    picture = torch.randn(1, 12, 12, 12, requires_grad=True)
    out = WindowProcessor(4, shifted=shifted)(attn, picture.flatten(1, 2), grid=(12, 12)).view_as(picture)
    (gradient,) = torch.autograd.grad(out[0, 0, 0].sum(), picture)
    reached = gradient[0].abs().sum(-1) > 0
    assert reached[:4, :4].all() and reached.sum() == 16


def test_blocks_alternate_level_by_level() -> None:
    """Two blocks down and three up: the order in which they run decides."""
    spec = dict(TINY.unet) | {"layers_per_block": 2}
    built = UNet2DConditionModel(in_channels=6, out_channels=6, **spec)
    set_attention(built, "window", WINDOWS)
    for level, path, shifts in (
        (0, "down_blocks.0", [False, True]),
        (0, "up_blocks.1", [False, True, False]),
        (1, "mid_block", [False]),
    ):
        found = [p for name, p in built.attn_processors.items() if name.startswith(path) and "attn1" in name]
        assert [processor.shifted for processor in found] == shifts
        assert {processor.window for processor in found} == {WINDOWS[level]}


# Pooling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 6), (4, 21), (3, 50)])
def test_pooling_matches_a_loop(attn: Attention, height: int, width: int) -> None:
    picture = torch.randn(height, width, 12)
    cells = []
    for i in range(rows := min(height, 4)):
        for j in range(columns := min(width, 4)):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            cells.append(picture[top:bottom, left:right].mean(dim=(0, 1)))
    expected = full(attn, picture.reshape(-1, 12), torch.stack(cells))
    got = PooledProcessor(4)(attn, picture.reshape(1, -1, 12), grid=(height, width))[0]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


# Use in a UNet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCALABLE)
@pytest.mark.parametrize(("height", "width"), [(17, 29), (33, 10)])
def test_odd_sizes_run_and_batches_are_independent(
    unet: UNet2DConditionModel, kind: str, height: int, width: int
) -> None:
    both = run(unet, height, width, kind, batch=2)
    assert both.shape == (2, 6, height, width) and both.isfinite().all()
    torch.testing.assert_close(both[:1], run(unet, height, width, kind, batch=2)[:1])
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize("kind", SCALABLE)
def test_full_restores_the_unet(unet: UNet2DConditionModel, kind: str) -> None:
    before, hooks = run(unet, 20, 20), sum(len(module._forward_pre_hooks) for module in unet.modules())
    run(unet, 20, 20, kind)
    assert torch.equal(run(unet, 20, 20, "full"), before)
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}
    assert sum(len(module._forward_pre_hooks) for module in unet.modules()) == hooks


def test_a_second_choice_replaces_the_first(unet: UNet2DConditionModel) -> None:
    expected = run(copy.deepcopy(unet), 20, 20, "pooled")
    run(unet, 20, 20, "window")
    assert torch.equal(run(unet, 20, 20, "pooled"), expected)


def test_a_copy_is_independent(unet: UNet2DConditionModel) -> None:
    windowed = run(unet, 20, 20, "window")
    twin = copy.deepcopy(unet)
    whole = run(twin, 20, 20, "full")
    assert not any(module._forward_pre_hooks for module in twin.modules())
    assert torch.equal(run(unet, 20, 20), windowed) and not torch.equal(whole, windowed)


def test_cross_attention_and_weights_are_untouched_and_nothing_is_logged(
    unet: UNet2DConditionModel, caplog: pytest.LogCaptureFixture
) -> None:
    names = list(unet.state_dict())
    with caplog.at_level(logging.WARNING):
        logging.getLogger("diffusers").propagate = True
        run(unet, 20, 20, "window")
    assert list(unet.state_dict()) == names
    assert not caplog.records
    crossed = [p for name, p in unet.attn_processors.items() if "attn2" in name]
    assert {type(processor) for processor in crossed} == {AttnProcessor2_0}


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_fused_projections_give_the_same(unet: UNet2DConditionModel, kind: str) -> None:
    expected = run(unet, 20, 28, kind)
    unet.fuse_qkv_projections()
    torch.testing.assert_close(run(unet, 20, 28, kind), expected, atol=1e-4, rtol=1e-4)
    assert any(isinstance(p, FusedAttnProcessor2_0) for p in unet.attn_processors.values())


@pytest.mark.parametrize("kind", SCALABLE)
def test_bfloat16_is_near_float32(unet: UNet2DConditionModel, kind: str) -> None:
    precise = run(unet, 20, 20, kind)
    set_attention(unet.to(torch.bfloat16), kind, WINDOWS)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(1, 6, 20, 20, generator=generator)
    prompt = torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels, generator=generator)
    coarse = unet(hidden.bfloat16(), 500, prompt.bfloat16()).sample
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - precise).abs().mean() < 0.05 * precise.abs().mean()


@pytest.mark.parametrize("kind", SCALABLE)
def test_gradients_match_finite_differences(attn: Attention, kind: str) -> None:
    processors = {
        "window": WindowProcessor(2, shifted=True),
        "auto": AutoProcessor(2, shifted=False),
        "pooled": PooledProcessor(2),
    }
    tokens = torch.randn(1, 5 * 4, 12, dtype=torch.float64, requires_grad=True)
    attn = attn.double()
    assert torch.autograd.gradcheck(lambda x: processors[kind](attn, x, grid=(5, 4)), tokens, fast_mode=True)


def test_training_after_inference_at_the_same_size(unet: UNet2DConditionModel) -> None:
    """Nothing made in inference mode may be left for autograd to find."""
    set_attention(unet, "window", WINDOWS)
    hidden, prompt = torch.randn(1, 6, 20, 20), torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels)
    with torch.inference_mode():
        unet(hidden, 500, prompt)
    unet(hidden, 500, prompt).sample.mean().backward()
    assert all(parameter.grad is not None for parameter in unet.parameters())


@pytest.mark.parametrize("kind", SCALABLE)
def test_counting_on_the_meta_device_leaves_nothing_behind(unet: UNet2DConditionModel, kind: str) -> None:
    with torch.device("meta"):
        shadow = build_unet(TINY, 6, 6)
        set_attention(shadow, kind, WINDOWS)
        prompt = torch.empty(1, TINY.prompt_tokens, TINY.prompt_channels)
        assert shadow(torch.empty(1, 6, 20, 20), 500, prompt).sample.is_meta
    assert run(unet, 20, 20, kind).isfinite().all()


def test_checkpointed_gradients_are_the_same_after_another_size(unet: UNet2DConditionModel) -> None:
    """Two pictures of one count but different shape before the backward pass, which recomputes the blocks."""

    def gradients(checkpointed: bool) -> list[Tensor]:
        model = copy.deepcopy(unet).train()
        if checkpointed:
            model.enable_gradient_checkpointing()
        set_attention(model, "window", WINDOWS)
        torch.manual_seed(2)
        prompt = torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels)
        outputs = [model(torch.randn(1, 6, *size), 500, prompt).sample for size in ((12, 24), (24, 12))]
        sum(output.square().mean() for output in outputs).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == len(list(unet.parameters()))
    torch.testing.assert_close(recomputed, plain)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCALABLE)
def test_compilation_of_a_transformer_changes_nothing(unet: UNet2DConditionModel, kind: str) -> None:
    """Traced without a break, and not again for another size above the window."""
    graphs: list[object] = []
    counts = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    set_attention(unet, kind, WINDOWS)
    transformer = unet.up_blocks[1].attentions[0]
    prompt = torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels)
    torch._dynamo.reset()
    compiled = torch.compile(transformer, backend=backend, dynamic=True, fullgraph=True)
    for size in ((20, 24), (33, 17), (40, 41)):
        hidden = torch.randn(1, 32, *size)
        with torch.no_grad():
            (expected,) = transformer(hidden, encoder_hidden_states=prompt, return_dict=False)
            (got,) = compiled(hidden, encoder_hidden_states=prompt, return_dict=False)
        torch.testing.assert_close(got, expected)
        counts.append(len(graphs))
    assert counts[0] == counts[-1] > 0
    torch._dynamo.reset()


# Seams -------------------------------------------------------------------------------------------------------------


def seams(unet: UNet2DConditionModel, shifts: tuple[bool, ...] | None) -> float:
    """The seam score of a smooth picture's output at the borders of both layouts, nine windows on each axis.

    `shifts` overrides the layouts of the first level's blocks.
    """
    size = 72
    set_attention(unet, "window", WINDOWS)
    first = [p for p in unet.attn_processors.values() if isinstance(p, WindowProcessor) and p.window == WINDOWS[0]]
    for processor, shifted in zip(first, shifts or (), strict=False):
        processor.shifted = shifted
    ramp = torch.linspace(-2, 2, size)
    waves = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)]).repeat(3, 1, 1)[None]
    smooth = torch.sin(waves * torch.arange(1, 7).view(1, 6, 1, 1))
    with torch.no_grad():
        output = unet(smooth, 500, torch.zeros(1, TINY.prompt_tokens, TINY.prompt_channels)).sample
    borders = window_borders(size, WINDOWS[0], shifted=False)
    assert borders == list(range(8, 72, 8))
    return seam_score(output, borders, borders, period=2)


def test_the_seam_score_sees_what_alternation_spreads(unet: UNet2DConditionModel) -> None:
    """Windows in one place in every block leave a step at their borders that the shipped layouts do not."""
    repeated, shipped = seams(unet, (False, False, False)), seams(unet, None)
    assert repeated > 4 and shipped < repeated - 3


# Failures ----------------------------------------------------------------------------------------------------------


def test_an_unknown_kind_names_the_choices(unet: UNet2DConditionModel) -> None:
    with pytest.raises(ValueError, match="attention is 'swin', expected one of full, window, pooled, auto"):
        set_attention(unet, "swin", WINDOWS)


def test_windows_must_fit_the_levels(unet: UNet2DConditionModel) -> None:
    for windows in ((8,), (8, 4, 2)):
        with pytest.raises(ValueError, match=f"{len(windows)} sides, expected one for each of 2 levels"):
            set_attention(unet, "window", windows)
    with pytest.raises(ValueError, match="sides of at least 1"):
        set_attention(unet, "window", (8, 0))


def test_a_processor_without_its_grid_says_so(attn: Attention) -> None:
    for grid in (None, (4, 4)):
        with pytest.raises(ValueError, match="set_attention"):
            WindowProcessor(4, shifted=False)(attn, torch.zeros(1, 20, 12), grid=grid)


def test_masks_are_refused_where_they_cannot_be_applied(attn: Attention) -> None:
    with pytest.raises(ValueError, match="only the attention 'full' can apply"):
        WindowProcessor(4, shifted=False)(
            attn, torch.zeros(1, 64, 12), attention_mask=torch.zeros(1, 1, 64), grid=(8, 8)
        )

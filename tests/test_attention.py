"""Window and pooled self-attention against naive loops, and against full attention where they must be the same."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from gendrpix.attention import PooledAttention, WindowAttention, _Grid, plan_windows, set_attention
from gendrpix.networks import build_unet
from tests.models import TINY


def tiny_unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return build_unet(TINY, 192, 192).eval()


def run(unet: UNet2DConditionModel, height: int, width: int) -> Tensor:
    x = torch.randn(2, 192, height, width, generator=torch.Generator().manual_seed(1))
    prompt = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1)
    with torch.inference_mode():
        return unet(x, 500, prompt).sample


@pytest.mark.parametrize("kind", ["window", "pooled", "auto"])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (5, 8)])
def test_up_to_the_window_and_one_more_all_kinds_are_full(kind: str, size: tuple[int, int]) -> None:
    unet = tiny_unet()
    expected = run(unet, *size)
    set_attention(unet, kind, (8, 4))
    assert torch.allclose(run(unet, *size), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["window", "pooled"])
def test_beyond_the_window_the_result_differs_and_full_comes_back(kind: str) -> None:
    unet = tiny_unet()
    expected = run(unet, 24, 30)
    set_attention(unet, kind, (8, 4))
    changed = run(unet, 24, 30)
    assert changed.shape == expected.shape and torch.isfinite(changed).all()
    assert not torch.allclose(changed, expected, atol=1e-4)
    set_attention(unet, "full", (8, 4))
    assert torch.equal(run(unet, 24, 30), expected)


def one_head_attention() -> Attention:
    torch.manual_seed(0)
    return Attention(query_dim=12, heads=2, dim_head=6).eval()


def grid_of(height: int, width: int) -> _Grid:
    grid = _Grid()
    grid.height, grid.width = height, width
    return grid


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (17, 33), (20, 9), (65, 11)])
def test_windows_match_a_loop_over_tokens(shifted: bool, size: tuple[int, int]) -> None:
    """For every token: find its window by hand, attend to that window's tokens alone."""
    height, width = size
    attn, x = one_head_attention(), torch.randn(1, height * width, 12, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        result = WindowAttention(grid_of(height, width), 8, shifted=shifted)(attn, x)
        picture = x.view(height, width, 12)
        plans = [plan_windows(n, 8, shifted) for n in size]
        for row in range(0, height, 3):
            for column in range(0, width, 3):
                spans = []
                for place, plan in ((row, plans[0]), (column, plans[1])):
                    middles = [abs(start + (plan.side - 1) / 2 - place) for start in plan.starts]
                    start = plan.starts[middles.index(min(middles))]
                    assert start <= place < start + plan.side
                    spans.append(slice(start, start + plan.side))
                keys = picture[spans[0], spans[1]].reshape(1, -1, 12)
                alone = attn(picture[row, column].view(1, 1, 12), encoder_hidden_states=keys)
                assert torch.allclose(result[0, row * width + column], alone[0, 0], atol=1e-5)


@pytest.mark.parametrize("length", range(1, 200))
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_cover_every_token_once(length: int, shifted: bool) -> None:
    plan = plan_windows(length, 16, shifted)
    assert torch.equal(plan.gather[plan.scatter], torch.arange(length))
    assert all(0 <= start <= length - plan.side for start in plan.starts)
    assert plan.side <= 24  # at most one and a half windows


def test_every_second_block_is_shifted_by_half_a_window() -> None:
    plain, shifted = plan_windows(64, 16, False), plan_windows(64, 16, True)
    assert plain.starts == (0, 16, 32, 48)
    assert shifted.starts == (0, 8, 24, 40, 48)
    unet = tiny_unet()
    set_attention(unet, "window", (8, 4))
    flags = [p.shifted for p in unet.attn_processors.values() if isinstance(p, WindowAttention)]
    assert True in flags and False in flags


def test_pooling_matches_a_mean_over_areas() -> None:
    attn, x = one_head_attention(), torch.randn(2, 16 * 24, 12, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        result = PooledAttention(grid_of(16, 24), 8)(attn, x)
        means = x.view(2, 8, 2, 8, 3, 12).mean((2, 4)).flatten(1, 2)
        expected = attn(x, encoder_hidden_states=means)
    assert torch.allclose(result, expected, atol=1e-5)


def test_gradients_flow_through_windows() -> None:
    unet = tiny_unet().train()
    set_attention(unet, "window", (8, 4))
    x = torch.randn(1, 192, 24, 24, requires_grad=True)
    unet(x, 500, torch.randn(1, 3, 16)).sample.square().mean().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_unknown_kinds_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of full, window, pooled, auto"):
        set_attention(tiny_unet(), "sparse", (8, 4))
    with pytest.raises(ValueError, match="3 sides, expected one for each of 2 levels"):
        set_attention(tiny_unet(), "window", (8, 4, 2))

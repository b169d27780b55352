"""PadCFG as pure functions, on networks that can be written down."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gendrpix.restore.guidance import Branches, crop, mix, pad, predict_branches, predict_plain_branches
from gendrpix.settings.checks import checked_offset

offsets = st.tuples(st.integers(0, 7), st.integers(0, 7))
PROMPTS = torch.tensor([[[2.0]], [[-1.0]]])


def grid_network(x: Tensor, prompts: Tensor) -> Tensor:
    """Multiplies by the prompt and adds a pattern fixed to the 8-pixel grid of what it is given."""
    rows, columns = torch.arange(x.shape[-2]) % 8, torch.arange(x.shape[-1]) % 8
    return x * prompts.view(-1, 1, 1, 1) + (rows[:, None] * 8 + columns).to(x)


@given(offsets, st.integers(1, 20), st.integers(1, 20))
def test_pad_is_numpys_reflection_and_crop_undoes_it(offset: tuple[int, int], height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width)
    top, left = offset
    padded = pad(x, offset)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (top, 8 - top), (left, 8 - left)), mode="reflect")
    assert np.array_equal(padded.numpy(), expected)
    assert torch.equal(crop(padded, offset, height, width), x)


@pytest.mark.parametrize("offset", [(8, 0), (0, -1), (3, 9)])
def test_offsets_are_0_to_7(offset: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 to 7"):
        pad(torch.zeros(1, 3, 8, 8), offset)


@given(offsets, offsets)
def test_each_branch_sees_its_own_offset_and_prompt(pos: tuple[int, int], neg: tuple[int, int]) -> None:
    x = torch.randn(1, 3, 16, 24)
    branches = predict_branches(grid_network, x, PROMPTS, pos_pad=pos, neg_pad=neg)
    for branch, offset, factor in ((branches.positive, pos, 2.0), (branches.negative, neg, -1.0)):
        rows, columns = (torch.arange(16) + offset[0]) % 8, (torch.arange(24) + offset[1]) % 8
        assert torch.allclose(branch, x * factor + (rows[:, None] * 8 + columns))


@given(st.floats(-3, 5), st.integers(1, 3))
def test_the_mix_is_the_papers_equation(omega: float, batch: int) -> None:
    positive, negative = torch.randn(2, batch, 3, 8, 8)
    mixed = mix(Branches(positive, negative), omega)
    assert torch.allclose(mixed, negative + omega * (positive - negative), atol=1e-5)


def test_omega_1_is_the_positive_branch_bit_for_bit() -> None:
    branches = Branches(torch.randn(1, 3, 8, 8), torch.full((1, 3, 8, 8), float("inf")))
    assert torch.equal(mix(branches, 1.0), branches.positive)


@pytest.mark.parametrize("plain", [False, True])
def test_batched_and_sequential_agree_and_call_as_often_as_they_say(plain: bool) -> None:
    batches: list[int] = []

    def counted(x: Tensor, prompts: Tensor) -> Tensor:
        batches.append(x.shape[0])
        assert prompts.shape[0] == x.shape[0]
        return grid_network(x, prompts)

    x = torch.randn(3, 3, 16, 16)
    function = predict_plain_branches if plain else predict_branches
    together = function(counted, x, PROMPTS, batched=True)
    apart = function(counted, x, PROMPTS, batched=False)
    assert batches == [6, 3, 3]
    assert all(torch.equal(one, two) for one, two in zip(together, apart, strict=True))


def test_plain_guidance_leaves_both_unpadded() -> None:
    x = torch.randn(1, 3, 8, 16)
    branches = predict_plain_branches(grid_network, x, PROMPTS)
    assert torch.equal(branches.positive, grid_network(x, PROMPTS[:1]))
    assert torch.equal(branches.negative, grid_network(x, PROMPTS[1:]))


def test_the_papers_offsets_are_the_defaults() -> None:
    x = torch.randn(1, 3, 8, 8)
    explicit = predict_branches(grid_network, x, PROMPTS, pos_pad=(4, 4), neg_pad=(3, 3))
    assert all(torch.equal(a, b) for a, b in zip(predict_branches(grid_network, x, PROMPTS), explicit, strict=True))
    assert checked_offset("offset", [4, 3]) == (4, 3)

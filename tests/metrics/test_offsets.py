"""The pattern that PadCFG leaves: its measurement, and its prediction against a network that writes a known one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gendrpix.metrics.offsets import (
    mean_pattern,
    negative_offset,
    offset_difference,
    pattern_levels,
    predict_pattern,
    predicted_levels,
)
from gendrpix.restore.guidance import mix, predict_branches

OMEGA = 1.5


def known_patterns() -> Tensor:
    """(2, 3, 8, 8): the two branches' patterns, each colour's mean taken away."""
    patterns = 0.02 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return patterns - patterns.mean(dim=(-2, -1), keepdim=True)


def write_patterns(pixels: Tensor, prompts: Tensor) -> Tensor:
    """A network that adds its branch's pattern to every 8 x 8 patch of what it is given."""
    patterns = known_patterns()[prompts[:, 0, 0].long()]
    return pixels + patterns.tile(1, 1, pixels.shape[-2] // 8, pixels.shape[-1] // 8)


def test_the_prediction_is_what_a_network_with_known_patterns_leaves() -> None:
    x = torch.rand(2, 3, 40, 48, dtype=torch.float64) * 2 - 1
    prompts = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    positive, negative = (mean_pattern(write_patterns(x, prompts[row].expand(2, 1, 1)), x) for row in (0, 1))
    torch.testing.assert_close(torch.stack([positive, negative]), known_patterns(), atol=1e-12, rtol=0)
    levels = predicted_levels(positive, negative, OMEGA)
    for pos_pad, neg_pad in (((4, 4), (3, 3)), ((4, 4), (0, 4)), ((1, 6), (7, 2))):
        branches = predict_branches(write_patterns, x, prompts, pos_pad=pos_pad, neg_pad=neg_pad)
        left = mean_pattern(mix(branches, OMEGA), x)
        torch.testing.assert_close(
            predict_pattern(positive, negative, OMEGA, pos_pad, neg_pad), left, atol=1e-12, rtol=0
        )
        expected = 127.5 * left.square().mean().sqrt()
        torch.testing.assert_close(levels[offset_difference(pos_pad, neg_pad)], expected)
        torch.testing.assert_close(pattern_levels(left), expected)


def test_equal_branches_leave_least_where_they_lie_apart() -> None:
    """Of one pattern, rolled by d, the mix has the square |w m|^2 + |(1 - w) m|^2 + 2 w (1 - w) <m, roll(m, d)>."""
    pattern = known_patterns()[0]
    levels = predicted_levels(pattern, pattern, OMEGA)
    energy = pattern.square().mean()
    for difference in ((0, 0), (2, 5)):
        shared = (pattern * torch.roll(pattern, difference, dims=(-2, -1))).mean()
        square = (OMEGA**2 + (1 - OMEGA) ** 2) * energy + 2 * OMEGA * (1 - OMEGA) * shared
        torch.testing.assert_close(levels[difference], 127.5 * square.sqrt())


def test_differences_and_offsets() -> None:
    assert offset_difference((4, 4), (3, 3)) == (1, 1) and offset_difference((1, 0), (3, 7)) == (6, 1)
    for difference in ((0, 0), (4, 0), (7, 5)):
        assert offset_difference((4, 4), negative_offset((4, 4), difference)) == difference


def test_pictures_that_have_no_pattern() -> None:
    x = torch.rand(1, 3, 19, 27)
    assert mean_pattern(x + 0.1, x).abs().max() < 1e-6, "a shift in brightness is none"
    for other in (torch.rand(1, 3, 19, 28), torch.rand(1, 3, 7, 27)):
        with pytest.raises(ValueError, match="expected two of one size, at least 8"):
            mean_pattern(other, x if other.shape[-1] == 28 else other)

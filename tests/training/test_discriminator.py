"""The discriminator's frozen features against diffusers' own UNet, and its heads."""

from __future__ import annotations

import pytest
import torch

from gendrpix.models.networks import build_unet
from tests.helpers.models import TINY
from training.discriminator import DiscriminatorHeads, FrozenFeatures
from training.losses import discriminator_loss, generator_loss, positives


@pytest.fixture
def features() -> FrozenFeatures:
    torch.manual_seed(0)
    prompt = torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels)
    return FrozenFeatures(build_unet(TINY, 6, 4), prompt, TINY.timestep)


def test_features_are_those_of_the_whole_unet(features: FrozenFeatures) -> None:
    hidden = torch.randn(2, 6, 8, 12)
    seen = []
    unet = features.unet
    for block in unet.down_blocks:
        last = block.attentions[-1] if hasattr(block, "attentions") else block.resnets[-1]
        last.register_forward_hook(lambda _, __, out: seen.append(out if torch.is_tensor(out) else out[0]))
    unet.mid_block.register_forward_hook(lambda _, __, out: seen.append(out))
    unet(hidden, TINY.timestep, features.prompt.expand(2, -1, -1))
    expected = [hidden, *(one.detach().clone() for one in seen)]
    maps = features(hidden)
    assert len(maps) == len(expected) == 4
    for got, want in zip(maps, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_feature_shapes_and_channels(features: FrozenFeatures) -> None:
    maps = features(torch.randn(2, 6, 8, 12))
    assert [tuple(one.shape) for one in maps] == [(2, 6, 8, 12), (2, 32, 8, 12), (2, 64, 4, 6), (2, 64, 4, 6)]
    assert features.channels == [6, 32, 64, 64]


def test_gradients_reach_the_input_and_never_the_backbone(features: FrozenFeatures) -> None:
    heads = DiscriminatorHeads(features.channels, 8)
    hidden = torch.randn(2, 6, 8, 8, requires_grad=True)
    generator_loss(heads(features(hidden))).backward()
    assert hidden.grad is not None and hidden.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in features.unet.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())
    assert not features.unet.training


def test_heads_judge_every_place_of_every_map() -> None:
    heads = DiscriminatorHeads([32, 64, 64], 8)
    assert len(heads.heads) == 3
    maps = [torch.randn(2, 32, 8, 12), torch.randn(2, 64, 4, 6), torch.randn(2, 64, 4, 6)]
    assert heads(maps).shape == (2, 8 * 12 + 4 * 6 + 4 * 6)
    with pytest.raises(ValueError, match="3 heads but got 2 feature maps"):
        heads(maps[:2])


def test_heads_stay_in_float32_under_autocast() -> None:
    heads = DiscriminatorHeads([4], 8)
    feature = torch.randn(2, 4, 6, 6)
    expected = heads([feature.bfloat16().float()])
    with torch.autocast("cpu", torch.bfloat16):
        logits = heads([feature.bfloat16()])
    assert logits.dtype is torch.float32
    assert torch.equal(logits, expected)


def test_negative_samples_count_for_nothing_and_the_rest_for_the_whole() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(4, 9), torch.randn(4, 9)
    negative = torch.tensor([False, True, False, False])
    shown = positives(negative, 0.25)
    kept = ~negative
    torch.testing.assert_close(generator_loss(fake, shown), generator_loss(fake[kept]))
    torch.testing.assert_close(discriminator_loss(real, fake, shown), discriminator_loss(real[kept], fake[kept]))
    assert generator_loss(fake, positives(torch.ones(4, dtype=torch.bool), 0.25)) == 0
    halves = [generator_loss(fake[part], shown[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), generator_loss(fake, shown))

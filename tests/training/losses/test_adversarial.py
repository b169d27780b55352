"""The discriminator's frozen features against diffusers' own UNet, and its heads."""

from __future__ import annotations

import pytest
import torch

from gendrpix.models.networks import build_unet
from tests.helpers.models import TINY
from training.losses.adversarial import (
    DiscriminatorHeads,
    FrozenFeatures,
    Whitening,
    discriminator_loss,
    generator_loss,
    positives,
    report_heads,
)


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
    assert [tuple(one.shape) for one in heads(maps)] == [(2, 8 * 12), (2, 4 * 6), (2, 4 * 6)]
    with pytest.raises(ValueError, match="3 heads but got 2 feature maps"):
        heads(maps[:2])


def test_heads_stay_in_float32_under_autocast() -> None:
    heads = DiscriminatorHeads([4], 8)
    feature = torch.randn(2, 4, 6, 6)
    (expected,) = heads([feature.bfloat16().float()])
    with torch.autocast("cpu", torch.bfloat16):
        (logits,) = heads([feature.bfloat16()])
    assert logits.dtype is torch.float32
    assert torch.equal(logits, expected)


def test_negative_samples_count_for_nothing_and_the_rest_for_the_whole() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(4, 9), torch.randn(4, 9)
    negative = torch.tensor([False, True, False, False])
    shown = positives(negative, 0.25)
    kept = ~negative
    torch.testing.assert_close(generator_loss([fake], shown), generator_loss([fake[kept]]))
    torch.testing.assert_close(
        discriminator_loss([real], [fake], shown), discriminator_loss([real[kept]], [fake[kept]])
    )
    assert generator_loss([fake], positives(torch.ones(4, dtype=torch.bool), 0.25)) == 0
    halves = [generator_loss([fake[part]], shown[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), generator_loss([fake], shown))


def test_a_head_of_few_places_counts_as_much_as_one_of_many() -> None:
    many, few = torch.full((2, 100), -3.0), torch.full((2, 4), 3.0)
    expected = (generator_loss([many]) + generator_loss([few])) / 2
    torch.testing.assert_close(generator_loss([many, few]), expected)
    both = discriminator_loss([many, few], [-many, -few])
    torch.testing.assert_close(both, (discriminator_loss([many], [-many]) + discriminator_loss([few], [-few])) / 2)


def correlated_maps(count: int, seed: int) -> torch.Tensor:
    """(count, 6, 12, 12): two strong channels with what they share in the third, and three a hundred times fainter."""
    maps = torch.randn(count, 6, 12, 12, generator=torch.Generator().manual_seed(seed))
    maps[:, 2] = 0.9 * maps[:, 0] + 0.1 * maps[:, 2] + 5
    return maps * torch.tensor([1.0, 3.0, 1.0, 0.01, 0.02, 0.01])[:, None, None]


def test_whitened_maps_have_unit_covariance() -> None:
    heads = DiscriminatorHeads([6, 6], 8)
    heads.whiten([[correlated_maps(8, seed), 100 * correlated_maps(8, seed + 9)] for seed in range(3)])
    for whitening, scale in zip(heads.whitenings, (1, 100), strict=True):
        whitened = torch.cat(
            [whitening(scale * correlated_maps(8, seed + (9 if scale > 1 else 0))) for seed in range(3)]
        )
        rows = whitened.movedim(1, -1).flatten(0, -2).double()
        torch.testing.assert_close(torch.cov(rows.T), torch.eye(6, dtype=torch.float64), atol=2e-3, rtol=0)
        assert rows.mean(0).abs().max() < 1e-3
    with pytest.raises(ValueError, match="whitening_crops must be at least 1"):
        heads.whiten([])


def test_directions_that_real_maps_lack_are_not_blown_up() -> None:
    whitening = Whitening(3)
    flat = torch.ones(50, 4, dtype=torch.float64)
    flat[:, 0] = torch.linspace(-1, 1, 50)
    whitening.set_from(flat.T @ flat)
    assert whitening.components.isfinite().all() and whitening.components.abs().max() <= 1.1e3 / flat[:, 0].std()


@pytest.mark.parametrize(("whitened", "learnt"), [(True, True), (False, False)])
def test_heads_hear_a_faint_difference_where_maps_are_whitened(whitened: bool, learnt: bool) -> None:
    """The fake maps lack half of the amplitude of one of the faint channels, and nothing else."""
    torch.manual_seed(0)
    heads = DiscriminatorHeads([6], 16)
    if whitened:
        heads.whiten([[correlated_maps(32, 100)]])
    optimizer = torch.optim.AdamW(heads.parameters(), lr=2e-3, betas=(0.5, 0.99), weight_decay=0.0)

    def fakes(maps: torch.Tensor) -> torch.Tensor:
        return maps * torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 1.0])[:, None, None]

    for step in range(80):
        loss = discriminator_loss(
            heads([correlated_maps(4, 2 * step)]), heads([fakes(correlated_maps(4, 2 * step + 1))])
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        judged = heads([correlated_maps(64, 500)]), heads([fakes(correlated_maps(64, 501))])
    share = (judged[0][0].mean(1) > judged[1][0].mean(1)).float().mean()
    assert (share > 0.95) == learnt and (discriminator_loss(*judged) < 1.2) == learnt


def test_the_log_tells_each_heads_loss_and_pairs() -> None:
    real = [torch.tensor([[2.0, 4.0], [0.0, 0.0], [9.0, 9.0]]), torch.tensor([[1.0], [1.0], [0.0]]), torch.zeros(3, 1)]
    fake = [torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0], [4.0], [0.0]]), torch.zeros(3, 1)]
    weights = torch.tensor([1.5, 1.5, 0.0])
    told = report_heads(real, fake, weights)
    assert set(told) == {"pairs"} | {f"head_{h}/{f}" for h in ("input", "level1", "middle") for f in ("loss", "pairs")}
    assert [float(told[f"head_{head}/pairs"]) for head in ("input", "level1", "middle")] == [0.5, 0.5, 0.0]
    assert float(told["pairs"]) == 0.5, "the third sample does not count"
    torch.testing.assert_close(told["head_middle/loss"], torch.tensor(2 * 2 * 0.6931472 / 2))
    losses = torch.stack([told[f"head_{head}/loss"] for head in ("input", "level1", "middle")])
    torch.testing.assert_close(losses.mean(), discriminator_loss(real, fake, weights))


def test_a_state_of_other_heads_is_refused_in_words() -> None:
    heads = DiscriminatorHeads([6, 4], 8)
    with pytest.raises(ValueError, match="other heads"):
        heads.load_state_dict(DiscriminatorHeads([6, 5], 8).state_dict())
    bare = {name: value for name, value in heads.state_dict().items() if "whitening" not in name}
    with pytest.raises(ValueError, match="Resume with the settings"):
        heads.load_state_dict(bare)

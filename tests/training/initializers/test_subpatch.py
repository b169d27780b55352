"""The network over patches of 4 x 4 pixels, and the UNet that its weights are written into."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gendrpix.models.codecs import PixelCodec
from gendrpix.models.networks import build_unet, predict
from gendrpix.specs import MODEL_SPECS, ModelSpec
from tests.helpers.models import EVEN, TINY
from training.initializers.subpatch import SubpatchNetwork, read_from, share_gradients, write_into

ENDS = (192, 192)


def random_subpatch(spec: ModelSpec) -> SubpatchNetwork:
    torch.manual_seed(0)
    subpatch = SubpatchNetwork(build_unet(spec, *ENDS)).eval()
    for parameter in subpatch.parameters():
        nn.init.normal_(parameter, std=0.1)
    return subpatch.requires_grad_(False)


@pytest.mark.parametrize("spec", [EVEN, MODEL_SPECS["mini"]], ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_the_unet_computes_what_its_finest_level_was_taught(spec: ModelSpec, size: tuple[int, int]) -> None:
    subpatch, unet, codec = random_subpatch(spec), build_unet(spec, *ENDS).eval(), PixelCodec()
    write_into(subpatch, unet)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    prompts = torch.randn(1, spec.prompt_tokens, spec.prompt_channels)
    with torch.no_grad():
        expected = subpatch(x)
        written = codec.decode(predict(unet, codec.encode(x), prompts, timestep=500, form="residual"))
    assert (expected - x).abs().mean() > 0.05
    torch.testing.assert_close(written, expected, atol=2e-5, rtol=0)


def test_what_has_no_say_yet_can_learn_to_have_one() -> None:
    unet, codec = build_unet(EVEN, *ENDS), PixelCodec()
    write_into(random_subpatch(EVEN), unet)
    x, prompts = torch.rand(1, 3, 64, 64), torch.randn(1, EVEN.prompt_tokens, EVEN.prompt_channels)
    for _ in range(2):  # the deeper levels learn as soon as they are heard
        predict(unet, codec.encode(x), prompts, timestep=500, form="residual").square().mean().backward()
        torch.optim.SGD(unet.parameters(), lr=0.01).step()
    idle = [name for name, p in unet.named_parameters() if not p.grad.abs().sum() > 0]
    assert all("time_emb" in name for name in idle), idle


def test_shared_weights_stay_shared_while_all_is_trained() -> None:
    unet, codec, again = build_unet(EVEN, *ENDS), PixelCodec(), SubpatchNetwork(build_unet(EVEN, *ENDS))
    subpatch = random_subpatch(EVEN)
    write_into(subpatch, unet)
    share_gradients(unet)
    x, prompts = torch.rand(1, 3, 64, 64), torch.randn(1, EVEN.prompt_tokens, EVEN.prompt_channels)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        predict(unet, codec.encode(x), prompts, timestep=500, form="residual").square().mean().backward()
        optimizer.step()
    read_from(again, unet)
    learnt = build_unet(EVEN, *ENDS)
    write_into(again, learnt)
    for name in ("conv_in", "conv_out", "down_blocks.0.resnets.1.conv2", "up_blocks.1.resnets.1.norm1"):
        torch.testing.assert_close(unet.get_submodule(name).weight, learnt.get_submodule(name).weight)
    assert (again.conv_in.weight - subpatch.conv_in.weight).abs().mean() > 1e-4


def test_what_was_written_can_be_read_again() -> None:
    subpatch, unet, again = random_subpatch(EVEN), build_unet(EVEN, *ENDS), SubpatchNetwork(build_unet(EVEN, *ENDS))
    write_into(subpatch, unet)
    read_from(again, unet)
    torch.testing.assert_close(dict(again.state_dict()), dict(subpatch.state_dict()))


def test_a_network_begins_as_the_identity() -> None:
    x = torch.rand(1, 3, 32, 40) * 2 - 1
    assert torch.equal(SubpatchNetwork(build_unet(EVEN, *ENDS))(x), x)


def test_weights_are_shared_between_the_quarters_of_a_patch() -> None:
    """A picture moved by 4 pixels gives the result moved by 4 pixels, far from its borders, which are gray here."""
    subpatch = random_subpatch(EVEN)
    inner = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    here, moved = (subpatch(F.pad(inner, (left, 128 - left, 64, 64)))[..., 64:96, :] for left in (64, 68))
    torch.testing.assert_close(here[..., 64:96], moved[..., 68:100], atol=1e-4, rtol=0)


def test_groups_that_mix_two_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="32 channels on the finest level, 64 from the next one and 8 groups"):
        SubpatchNetwork(build_unet(TINY, *ENDS))

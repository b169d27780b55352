"""Feed-forward layers in parts: the same numbers, less memory, nothing changed in training or in what is saved."""

import copy

import torch
from diffusers.models.attention import FeedForward

from gendrpix.models.networks import LEAST_POSITIONS, build_unet, forward_in_parts, split_feed_forward
from gendrpix.restore.memory import trace_bytes_per_pixel
from tests.helpers.models import TINY, tiny_pipeline


def test_parts_are_the_whole() -> None:
    layer = FeedForward(8, activation_fn="geglu")
    hidden = torch.randn(2, LEAST_POSITIONS + 5, 8)
    with torch.inference_mode():
        torch.testing.assert_close(forward_in_parts(layer, hidden), layer(hidden))


def test_a_split_unet_gives_the_same_and_keeps_its_weights() -> None:
    unet = build_unet(TINY, 6, 6).eval()
    split = copy.deepcopy(unet)
    split_feed_forward(split)
    assert split.state_dict().keys() == unet.state_dict().keys()
    hidden, prompt = torch.randn(1, 6, 72, 64), torch.randn(1, TINY.prompt_tokens, TINY.prompt_channels)
    with torch.inference_mode():
        torch.testing.assert_close(split(hidden, 500, prompt).sample, unet(hidden, 500, prompt).sample)
    split(hidden, 500, prompt).sample.mean().backward()
    assert all(parameter.grad is not None for parameter in split.parameters())


def test_a_copy_has_its_own_parts() -> None:
    unet = build_unet(TINY, 6, 6).eval()
    split_feed_forward(unet)
    twin = copy.deepcopy(unet)
    layers = [module for module in twin.modules() if isinstance(module, FeedForward)]
    assert layers and all(layer.forward.args[0] is layer for layer in layers)


def test_the_rehearsal_sees_less() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    whole = trace_bytes_per_pixel(pipeline, guided=False, batched=True)
    split_feed_forward(pipeline.unet)
    assert trace_bytes_per_pixel(pipeline, guided=False, batched=True) < whole

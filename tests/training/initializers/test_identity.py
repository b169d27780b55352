"""A UNet of the direct form that starts by returning its input."""

import pytest
import torch

from gendrpix.models.networks import build_unet
from gendrpix.specs import find_model
from training.initializers.identity import start_as_identity


def test_the_mini_unet_starts_as_the_identity_whatever_the_brightness() -> None:
    torch.manual_seed(0)
    unet = build_unet(find_model("mini"), 16, 16).eval()
    start_as_identity(unet)
    prompt = torch.randn(3, 4, 64)
    z = torch.randn(3, 16, 8, 8) + torch.tensor([-2.0, 0.0, 2.0])[:, None, None, None]
    with torch.no_grad():
        output = unet(z, 500, prompt).sample
    assert (output - z).square().mean() < 1e-3 * z.square().mean()
    # And it can be trained away from there: each part of the body hears of an error at the output
    unet.conv_out.weight.data += 0.01 * torch.randn_like(unet.conv_out.weight)
    unet(z, 500, prompt).sample.square().mean().backward()
    silent = [name for name, weight in unet.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [pytest.param(16, 192, id="unequal-ends"), pytest.param(192, 192, id="more-channels-than-the-norm-can-carry")],
)
def test_ends_that_cannot_carry_the_input_are_refused(inputs: int, outputs: int) -> None:
    with pytest.raises(ValueError, match="cannot start as the identity"):
        start_as_identity(build_unet(find_model("mini"), inputs, outputs))

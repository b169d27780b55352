"""Construction, surgery and the one-step prediction."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from gendrpix.models.networks import (
    build_autoencoder,
    build_unet,
    initial_prompts,
    predict,
    replace_conv_in,
    replace_conv_out,
    signal_and_noise,
)
from gendrpix.specs import MODEL_SPECS, RESTORER_SPECS
from tests.helpers.models import TINY

CROSSED = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SMALL = {"sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
GEOMETRIES = {
    "sd15": {**SMALL, **CROSSED, "cross_attention_dim": 24, "attention_head_dim": 8},
    "sd21": {
        **SMALL,
        **CROSSED,
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
    },
    "sdxl": {
        **SMALL,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 40,
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 20,
    },
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_surgery_keeps_every_other_weight_bit_for_bit(geometry: str) -> None:
    unet = UNet2DConditionModel(in_channels=4, out_channels=4, **GEOMETRIES[geometry])
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    assert replace_conv_out(replace_conv_in(unet, 192), 192, zero=True) is unet
    after = unet.state_dict()
    assert after.keys() == before.keys()
    changed = {
        name for name in before if not (before[name].shape == after[name].shape and before[name].equal(after[name]))
    }
    assert changed == {"conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_out.bias"}
    assert (unet.config.in_channels, unet.config.out_channels) == (192, 192)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_unet_runs_and_saves_after_surgery(geometry: str, tmp_path) -> None:
    options = GEOMETRIES[geometry]
    unet = UNet2DConditionModel(in_channels=4, out_channels=4, **options).eval()
    replace_conv_out(replace_conv_in(unet, 192), 16, zero=False)
    prompt = torch.randn(1, 3, options["cross_attention_dim"])
    extra = {"text_embeds": torch.randn(1, 20), "time_ids": torch.randn(1, 6)} if geometry == "sdxl" else None
    hidden = torch.randn(1, 192, 8, 8)
    with torch.no_grad():
        output = unet(hidden, 500, prompt, added_cond_kwargs=extra).sample
    assert output.shape == (1, 16, 8, 8)
    unet.save_pretrained(tmp_path)
    again = UNet2DConditionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(hidden, 500, prompt, added_cond_kwargs=extra).sample, output, atol=1e-5)


def test_the_fresh_ends_take_dtype_and_zero_start() -> None:
    unet = build_unet(TINY, 4, 4).to(torch.bfloat16)
    replace_conv_out(replace_conv_in(unet, 192), 192, zero=True)
    assert unet.conv_in.weight.dtype == unet.conv_out.weight.dtype == torch.bfloat16
    assert unet.conv_in.weight.abs().sum() > 0
    assert unet.conv_out.weight.count_nonzero() == unet.conv_out.bias.count_nonzero() == 0


def test_a_residual_restorer_begins_as_the_identity() -> None:
    unet = replace_conv_out(build_unet(TINY, 192, 4), 192, zero=True).eval()
    hidden = torch.randn(1, 192, 4, 4)
    prompt = torch.randn(1, 3, TINY.prompt_channels)
    with torch.no_grad():
        assert torch.equal(predict(unet, hidden, prompt, timestep=500, form="residual"), hidden)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_full_size_has_the_papers_parameters() -> None:
    spec = MODEL_SPECS["sd21"]
    with torch.device("meta"):
        pix = build_unet(spec, *RESTORER_SPECS["gendr-pix"].channels(spec))
        autoencoder = build_autoencoder(spec)
    assert count(pix) == pytest.approx(866.99e6, abs=0.01e6)
    assert count(autoencoder) == 57_266_643


def test_mini_keeps_its_budget() -> None:
    spec = MODEL_SPECS["mini"]
    for restorer in RESTORER_SPECS.values():
        with torch.device("meta"):
            assert count(build_unet(spec, *restorer.channels(spec))) <= 14e6
    with torch.device("meta"):
        assert count(build_autoencoder(spec)) <= 5e6


def test_schedule_has_the_known_values() -> None:
    alpha, sigma = signal_and_noise(500)
    assert (alpha, sigma) == (pytest.approx(0.526, abs=5e-4), pytest.approx(0.851, abs=5e-4))
    assert alpha**2 + sigma**2 == pytest.approx(1)


class Doubler(nn.Module):
    """UNet(z) = 2 z + mean of the prompt; keeps what it was asked."""

    def forward(self, hidden: Tensor, timestep: int, prompts: Tensor) -> SimpleNamespace:
        self.asked = (timestep, tuple(prompts.shape), prompts.dtype)
        return SimpleNamespace(sample=2 * hidden + prompts.mean())


def test_the_forms_read_the_output_as_their_equations_say() -> None:
    unet, z, prompt = Doubler(), torch.randn(2, 4, 3, 3), torch.full((1, 5, 6), 0.5)
    out = 2 * z + 0.5
    alpha, sigma = signal_and_noise(500)
    forms = {"direct": out, "residual": z + out, "epsilon": (z - sigma * out) / alpha}
    for form, expected in forms.items():
        assert torch.allclose(predict(unet, z, prompt, timestep=500, form=form), expected)
    assert unet.asked == (500, (2, 5, 6), torch.float32)


@pytest.mark.parametrize("form", ["residual", "epsilon"])
def test_forms_that_keep_the_domain_refuse_unequal_ends(form: str) -> None:
    unet = build_unet(TINY, 192, 4)
    with pytest.raises(ValueError, match="192 in and 4 out"):
        predict(unet, torch.zeros(1, 192, 2, 2), torch.zeros(1, 3, 16), timestep=500, form=form)


def test_initial_prompts_are_seeded_and_unlike() -> None:
    prompts = initial_prompts(TINY)
    assert prompts.shape == (2, TINY.prompt_tokens, TINY.prompt_channels)
    assert torch.equal(prompts, initial_prompts(TINY))
    assert not torch.equal(prompts, initial_prompts(TINY, seed=1))
    assert not torch.equal(prompts[0], prompts[1])


@pytest.mark.parametrize("form", ["epsilon", "v"])
def test_the_step_is_read_with_a_level_of_its_own(form: str) -> None:
    """GenDR's paper takes one half, whatever timestep the UNet is told."""
    unet = build_unet(TINY, 4, 4).eval()
    z, prompt = torch.randn(2, 4, 8, 8), torch.randn(1, 3, 16)
    output = unet(z, 300, prompt.expand(2, -1, -1)).sample
    expected = (z - 0.6 * output) / 0.8 if form == "epsilon" else 0.8 * z - 0.6 * output
    torch.testing.assert_close(predict(unet, z, prompt, timestep=300, form=form, alpha_bar=0.64), expected)
    alpha, sigma = signal_and_noise(300)
    expected = (z - sigma * output) / alpha if form == "epsilon" else alpha * z - sigma * output
    torch.testing.assert_close(predict(unet, z, prompt, timestep=300, form=form), expected)

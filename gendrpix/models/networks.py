"""Construction of UNets and autoencoders, surgery on a UNet's ends, and the one-step prediction."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, TypeAlias, get_args

import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from gendrpix.specs import Form, ModelSpec

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderDC


def build_unet(spec: ModelSpec, in_channels: int, out_channels: int) -> UNet2DConditionModel:
    """A randomly initialised UNet of a family's geometry with the given input and output channels."""
    return UNet2DConditionModel(in_channels=in_channels, out_channels=out_channels, **spec.unet)


def build_autoencoder(spec: ModelSpec) -> Autoencoder:
    """A randomly initialised autoencoder of a family's geometry: 8 times down, `spec.latent_channels` channels."""
    classes: dict[str, type[Any]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}
    autoencoder: Autoencoder = classes[spec.autoencoder_class](**spec.autoencoder)
    return autoencoder


def initial_prompts(spec: ModelSpec, seed: int = 0) -> Tensor:
    """Seeded (2, L, D) standard-normal embeddings, row 0 positive and row 1 negative, for a family without text."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, spec.prompt_tokens, spec.prompt_channels, generator=generator)


def replace_conv_in(unet: UNet2DConditionModel, in_channels: int) -> UNet2DConditionModel:
    """Give any diffusers UNet a fresh `conv_in` for `in_channels`, in place; every other weight is untouched."""
    old = unet.conv_in
    unet.conv_in = _fresh_conv(old, in_channels, old.out_channels)
    unet.register_to_config(in_channels=in_channels)
    return unet


def replace_conv_out(unet: UNet2DConditionModel, out_channels: int, *, zero: bool) -> UNet2DConditionModel:
    """Give any diffusers UNet a fresh `conv_out` for `out_channels`, in place; every other weight is untouched.

    `zero` starts it at zero, so that a restorer of the residual form begins as the identity.
    """
    old = unet.conv_out
    unet.conv_out = _fresh_conv(old, old.in_channels, out_channels)
    if zero:
        nn.init.zeros_(unet.conv_out.weight)
        if unet.conv_out.bias is not None:
            nn.init.zeros_(unet.conv_out.bias)
    unet.register_to_config(out_channels=out_channels)
    return unet


def _fresh_conv(old: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )


@lru_cache
def signal_and_noise(timestep: int) -> tuple[float, float]:
    """(alpha_t, sigma_t) of Stable Diffusion's scaled-linear schedule, .00085 to .012 over 1000 steps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = float(torch.cumprod(1 - betas, dim=0)[timestep])
    return math.sqrt(kept), math.sqrt(1 - kept)


def one_step_levels(timestep: int, alpha_bar: float | None = None) -> tuple[float, float]:
    """(alpha, sigma) of one step: of `alpha_bar`, or else those that the schedule has at the timestep."""
    if alpha_bar is None:
        return signal_and_noise(timestep)
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def predict(
    unet: nn.Module, hidden: Tensor, prompt: Tensor, *, timestep: int, form: str, alpha_bar: float | None = None
) -> Tensor:
    """One evaluation of the UNet, read according to `form`. Same domain in as out, except for "direct".

    `hidden` (B, C, h, w) is a latent or a pixel-unshuffled picture, `prompt` (1 or B, L, D). The UNet is told
    `timestep`. Where `alpha_bar` is given (one half in GenDR's paper), alpha^2 and sigma^2 are that and the rest to 1.

    - "epsilon":  `(z - sigma * UNet(z)) / alpha`, GenDR's one step (arXiv 2503.06790)
    - "v":        `alpha * z - sigma * UNet(z)`, the same step of a network that predicts velocity
    - "residual": `z + UNet(z)`
    - "direct":   `UNet(z)`
    """
    prompts = prompt.to(hidden.dtype).expand(hidden.shape[0], -1, -1)
    output: Tensor = unet(hidden, timestep, prompts).sample
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}, expected one of {', '.join(get_args(Form))}.")
    if form == "direct":
        return output
    if output.shape != hidden.shape:
        raise ValueError(
            f"The form {form!r} needs as many output channels as input channels; got {hidden.shape[1]} in and "
            f'{output.shape[1]} out. Use "direct", or a UNet with equal ends.'
        )
    if form == "residual":
        return hidden + output
    alpha, sigma = one_step_levels(timestep, alpha_bar)
    if form == "v":
        return alpha * hidden - sigma * output
    return (hidden - sigma * output) / alpha


NUM_PARTS = 8
LEAST_POSITIONS = 4096
"""Below so many (512 x 512 pixels at the finest level) the whole is small, and is computed at once."""


def split_feed_forward(unet: UNet2DConditionModel) -> None:
    """From now on every feed-forward layer of `unet` works in parts when nothing is learnt; weights are untouched."""
    for module in unet.modules():
        if isinstance(module, FeedForward):
            module.forward = partial(forward_in_parts, module)


def forward_in_parts(layer: FeedForward, hidden: Tensor) -> Tensor:
    """(B, N, C) => (B, N, C), the layer's own forward on one eighth of the positions after the other."""
    positions = hidden.shape[1]
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or positions < LEAST_POSITIONS:
        whole: Tensor = FeedForward.forward(layer, hidden)
        return whole
    result = torch.empty_like(hidden)
    for part, place in zip(hidden.chunk(NUM_PARTS, dim=1), result.chunk(NUM_PARTS, dim=1), strict=True):
        place.copy_(FeedForward.forward(layer, part))
    return result

"""A start for GenDR-Adc: GenDR's UNet, which reads and writes latents, with ends that read pictures and write latents.

GenDR's UNet may predict noise or velocity, from which the latent is computed with the help of the input latent
(`gendrpix.models.networks.predict`). GenDR-Adc has no input latent, so its UNet must write the latent itself. Both ends
are fitted by least squares: `conv_in` to the features that GenDR's own makes of E(x), then, on what the UNet makes of
these, `conv_out` to the latents that GenDR gives.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import one_step_levels, predict, replace_conv_in
from gendrpix.restore.pipelines import GenDRPipeline
from gendrpix.specs import RESTORER_SPECS, ModelSpec
from training.initializers.least_squares import fit_conv_in, fit_conv_out

logger = logging.getLogger(__name__)

Batches = Callable[[str], Iterable[dict[str, Tensor]]]
"""What is being fitted, for the progress bar => the same batches of samples at each call: "lq" and "negative"."""
NEAR = 0.1
"""Ridge of a `conv_out` that gives latents already: it stays near its weights."""
FAR = 1e-5
"""Ridge of one that gave noise, velocity or a difference: it must also find the input latent among its features."""


def begin_adc(teacher: GenDRPipeline, spec: ModelSpec) -> UNet2DConditionModel:
    """A trainable copy of GenDR's UNet with a fresh `conv_in` for pictures; its `conv_out` writes the latent directly.

    Only what GenDR's output adds to the latent is kept in `conv_out`; `fit_adc` finds what the input latent added.
    """
    in_channels, _ = RESTORER_SPECS["gendr-adc"].channels(spec)
    unet = replace_conv_in(copy.deepcopy(teacher.unet), in_channels).requires_grad_(True).train()
    alpha, sigma = one_step_levels(teacher.config.timestep, teacher.alpha_bar)
    share = {"epsilon": -sigma / alpha, "v": -sigma, "residual": 1.0, "direct": 1.0}[teacher.config.form]
    with torch.no_grad():
        unet.conv_out.weight.mul_(share)
        unet.conv_out.bias.mul_(share)
    attend_as(spec, unet)
    return unet


@torch.no_grad()
def fit_adc(unet: UNet2DConditionModel, teacher: GenDRPipeline, batches: Batches) -> None:
    """Fit both ends of the UNet of `begin_adc` to the teacher, in place; logs the explained shares."""
    latents, pixel_grid = LatentCodec(teacher.vae), PixelCodec()
    form = teacher.config.form
    pairs = (
        (pixel_grid.encode(batch["lq"]), teacher.unet.conv_in(latents.encode(batch["lq"])))
        for batch in batches("adc: conv_in")
    )
    heard = fit_conv_in(unet, pairs)

    def wanted() -> Iterator[Tensor]:
        for batch in batches("adc: conv_out"):
            x = batch["lq"]
            prompt = teacher.prompts.to(x.device)[batch["negative"].long()]
            predict(unet, pixel_grid.encode(x), prompt, timestep=teacher.config.timestep, form="direct")
            yield predict(teacher.unet, latents.encode(x), prompt, **teacher.one_step)

    given = fit_conv_out(unet, wanted(), NEAR if form == "direct" else FAR)
    logger.info(
        "adc: its ends give %.1f%% of the teacher's features and %.1f%% of its latents", 100 * heard, 100 * given
    )

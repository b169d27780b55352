"""A start for GenDR: the UNet of a GenDR-Pix between other ends.

The paper's three UNets begin as one, Stable Diffusion's. At `mini` there is no such network to begin with, and one that
reads latents learns slowly; a GenDR-Pix learns fast (the stage `finest`). Its first layer gives way to one that makes
the same features of a latent, its last to one that makes the latent of what GenDR-Pix writes: both are linear, and
fitted by least squares. The input latent is carried to the end beside them, as in `training.initializers.identity`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import replace_conv_in, replace_conv_out
from gendrpix.restore.pipelines import GenDRPixPipeline
from training.initializers.ends import Batches
from training.initializers.identity import start_as_identity
from training.initializers.least_squares import fit_conv_in, fit_conv_out

logger = logging.getLogger(__name__)


@torch.no_grad()
def take_body(pix: GenDRPixPipeline, codec: LatentCodec, batches: Batches) -> UNet2DConditionModel:
    """A UNet of the "direct" form that makes of latents the latents of what `pix` makes of their pictures.

    batches: gives, each time it is called, the same batches, with enlarged low-quality pictures in "lq".
    Raises ValueError for a UNet that is too narrow to carry a latent (`start_as_identity`).
    """
    channels, pixel_grid = codec.autoencoder.config.latent_channels, PixelCodec()
    unet = replace_conv_out(replace_conv_in(copy.deepcopy(pix.unet), channels), channels, zero=True)
    pictures = (batch["lq"] for batch in batches("teacher: conv_in"))
    heard = fit_conv_in(unet, ((codec.encode(x), pix.unet.conv_in(pixel_grid.encode(x))) for x in pictures))
    start_as_identity(unet)
    timestep = pix.config.timestep

    def wanted() -> Iterator[Tensor]:
        for batch in batches("teacher: conv_out"):
            x = batch["lq"]
            z = codec.encode(x)
            unet(z, timestep, pix.prompts[:1].to(z).expand(len(z), -1, -1))
            yield codec.encode(pix.restore(x))

    given = fit_conv_out(unet, wanted(), ridge=1e-3)
    logger.info("body: its ends give %.1f%% of the features and %.1f%% of the latents", 100 * heard, 100 * given)
    return unet

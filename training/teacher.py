"""Stage `teacher`: the one-step GenDR, `D(f(E(x)))`, on the latents of a frozen autoencoder.

The `mini` teacher has no base model to start from: it is supervised, on latents and through the decoder on pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gendrpix.codecs import LatentCodec
from gendrpix.networks import build_unet, initial_prompts, predict
from gendrpix.pipelines import GenDRPipeline
from gendrpix.specs import PATCH, find_model
from training.average import Average, averaged
from training.checkpoint import export, finished, load_trained, load_trained_autoencoder
from training.config import TeacherConfig
from training.data import open_crops
from training.identity import start_as_identity
from training.losses import l1_loss
from training.run import Run, keep_trainable
from training.validation import held_out, validate


def train(config: TeacherConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported pipeline."""
    # Set-up
    run = Run(config, "teacher")
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, held_out_crops = open_crops(config.data, seed=loop.seed)
    checked = held_out(held_out_crops, 16, device)

    # Models
    spec = find_model(config.model)
    autoencoder = load_trained_autoencoder(config.autoencoder, spec).to(device)
    keep_trainable(autoencoder, trainable=False)
    codec = LatentCodec(autoencoder)
    form, prompts = spec.forms["gendr"], initial_prompts(spec, loop.seed).to(device)
    if config.start:
        begun = load_trained(GenDRPipeline, config.start, "--start", spec, vae=autoencoder)
        unet, form, prompts = begun.unet.train(), begun.config.form, begun.prompts.to(device)
    else:
        unet = build_unet(spec, spec.latent_channels, spec.latent_channels)
        if form == "residual":
            torch.nn.init.zeros_(unet.conv_out.weight)  # begins as the identity
        elif form == "direct":
            start_as_identity(unet)
    unet.to(device, memory_format=torch.channels_last)
    if loop.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    ema = Average(unet, loop.ema_decay)

    def student(hidden: Tensor, prompt: Tensor) -> Tensor:
        """Latents => restored latents."""
        return predict(unet, hidden, prompt, timestep=spec.timestep, form=form)

    # Optimiser
    optimizer = run.optimizer(unet.parameters())
    unet, optimizer = accelerator.prepare(unet, optimizer)
    accelerator.register_for_checkpointing(ema)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        pixels, negative = batch["hq"], batch["negative"]
        target_pixels = torch.where(negative[:, None, None, None], batch["lq"], pixels)
        with accelerator.accumulate(unet), accelerator.autocast():
            with torch.no_grad():
                z_lq, z_target = codec.encode(torch.cat([batch["lq"], target_pixels])).chunk(2)
            z = student(z_lq, prompts[negative.long()]).float()
            latent = l1_loss(z, z_target)
            loss = config.latent_weight * latent
            terms = {"latent": latent.detach()}
            if config.pixel_weight:
                z_part, y_part = _same_part(z, target_pixels, config.pixel_crop_px, step)
                pixel = l1_loss(codec.decode(z_part).float(), y_part)
                loss = loss + config.pixel_weight * pixel
                terms["pixel"] = pixel.detach()
            run.update(loss, optimizer, unet.parameters(), run.learning_rate_at(step, loop.learning_rate), step)
        if not accelerator.sync_gradients:
            continue
        ema.step(unet.parameters())
        run.report(bar, step + 1, terms)

        if run.due(step + 1, loop.sample_every):
            with averaged(ema, accelerator.unwrap_model(unet)):
                figures = validate(
                    lambda x: codec.decode(student(codec.encode(x), prompts[:1])),
                    checked,
                    run.sample_picture(step + 1),
                )
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    own = finished(accelerator, unet, ema)
    pipeline = GenDRPipeline(
        unet=own, vae=autoencoder, prompts=prompts, form=form, timestep=spec.timestep, model=spec.name
    )
    weights = export(accelerator, {"gendr": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "gendr"


def _same_part(z: Tensor, pixels: Tensor, crop_px: int, step: int) -> tuple[Tensor, Tensor]:
    """One part of the latents and the same part of the pixels, its place moving with the step.

    The decoder is the dearest part of the step, and a part of each crop teaches as well as the whole.
    """
    side, height, width = crop_px // PATCH, z.shape[-2], z.shape[-1]
    side = min(side, height, width)
    top, left = (step * 7) % (height - side + 1), (step * 13) % (width - side + 1)
    part = pixels[..., top * PATCH : (top + side) * PATCH, left * PATCH : (left + side) * PATCH]
    return z[..., top : top + side, left : left + side], part

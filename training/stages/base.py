"""Stage `base`: a denoising UNet on 16-channel latents, made of Stable Diffusion 2.1 or from random weights.

Both ends of the source's UNet are replaced, for its 4 channels are those of another autoencoder; then everything is
trained with the ordinary objective, `|UNet(z_t, t, c) - noise|^2` or that of velocity, as the source's scheduler says.
A sample trained with `c_neg` shows the degraded picture, so that the base knows both sides of the guidance.
Representation alignment (`training.losses.alignment`) may be added.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import build_unet, initial_prompts, replace_conv_in, replace_conv_out
from gendrpix.restore.pipelines import GenDRPipeline
from gendrpix.specs import ModelSpec, find_model
from gendrpix.weights.source import FORMS, check_geometry, encode_prompts, load_part, read_form
from training.config import BaseConfig
from training.data.crops import HELD_OUT_SEED, open_crops
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained_autoencoder
from training.loop.run import Run
from training.loop.validation import held_out, validate
from training.losses.alignment import Alignment
from training.losses.score_distillation import Denoiser, diffuse, draw_noise
from training.trainable import keep_trainable


def train(config: BaseConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported base."""
    # Set-up
    run = Run(config, "base")
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, held_out_crops = open_crops(config.data, seed=loop.seed)
    checked = held_out(held_out_crops, 16, device)["hq"]

    # Models
    spec = find_model(config.model)
    autoencoder = load_trained_autoencoder(config.autoencoder, spec).to(device)
    keep_trainable(autoencoder, trainable=False)
    codec = LatentCodec(autoencoder)
    unet, prompts, form = _start(config, spec)
    prompts = prompts.to(device)
    run.place(unet)
    if loop.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    alignment = None
    if config.alignment_weight:
        alignment = Alignment(config.alignment_encoder, unet, device, loop.learning_rate)

    # Optimisers
    optimizer = run.optimizer(unet.parameters())
    unet, optimizer = accelerator.prepare(unet, optimizer)
    ema = Ema(accelerator.unwrap_model(unet), loop.ema_decay)
    accelerator.register_for_checkpointing(ema)
    if alignment is not None:
        accelerator.register_for_checkpointing(alignment.projector, alignment.optimizer)
    denoiser = Denoiser(unet, form)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        negative, indices = batch["negative"], batch["index"].tolist()
        pixels = torch.where(negative[:, None, None, None], batch["lq"], batch["hq"])
        with run.computing(unet):
            with torch.no_grad():
                z = codec.encode(pixels).float()
            noise, times = draw_noise(z, indices, loop.seed, 5)
            loss = denoiser.denoising_loss(z, noise, times, prompts[negative.long()])
            terms = {"denoising": loss.detach()}
            if alignment is not None:
                aligned, follow = alignment.term(pixels)
                loss = loss + config.alignment_weight * aligned
                terms["alignment"] = aligned.detach()
            rate = run.learning_rate_at(step, loop.learning_rate)
            run.update(loss, optimizer, unet.parameters(), rate, step)

            # The projector, on the same features
            if alignment is not None:
                run.update_replica(follow(), alignment.optimizer, alignment.projector.parameters(), rate, step)
        if not accelerator.sync_gradients:
            continue
        ema.step(unet.parameters())
        run.report(bar, step + 1, terms)

        if run.due(step + 1, loop.sample_every):
            with averaged(ema, accelerator.unwrap_model(unet)):
                figures = _check(denoiser, codec, checked, prompts[:1], spec.timestep, run.sample_picture(step + 1))
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    if alignment is not None:
        alignment.close()
    own = finished(accelerator, unet, ema)
    pipeline = GenDRPipeline(
        unet=own, vae=autoencoder, prompts=prompts, form=form, timestep=spec.timestep, model=spec.name
    )
    weights = export(accelerator, {"base": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "base"


def _check(
    denoiser: Denoiser, codec: LatentCodec, pixels: Tensor, prompt: Tensor, timestep: int, picture: Path | None
) -> dict[str, float]:
    """PSNR of the clean latents guessed in one step at `timestep`, decoded; as input, the noisy latents decoded."""
    noisy_pixels, guesses = [], []
    for number, part in enumerate(pixels.split(4)):
        z = codec.encode(part)
        times = [timestep] * len(part)
        noise, _ = draw_noise(z, range(4 * number, 4 * number + len(part)), HELD_OUT_SEED, 6)
        noisy = diffuse(z, noise, times)
        noisy_pixels.append(codec.decode(noisy).float().clamp(-1, 1))
        guesses.append(codec.decode(denoiser.clean(noisy, times, prompt)))
    ready = iter(guesses)  # in the order in which `validate` asks
    return validate(lambda _: next(ready), {"lq": torch.cat(noisy_pixels), "hq": pixels}, picture)


# The start ------------------------------------------------------------------------------------------------------------


def _start(config: BaseConfig, spec: ModelSpec) -> tuple[UNet2DConditionModel, Tensor, str]:
    """First weights, prompt embeddings and form: the source's with new ends, or random ones."""
    channels = spec.latent_channels
    if not config.source:
        unet = build_unet(spec, channels, channels)
        return unet, initial_prompts(spec, config.loop.seed), FORMS[config.prediction]
    form = read_form(config.source)
    unet = load_part(UNet2DConditionModel, config.source, "unet", dtype=torch.float32, use_safetensors=True)
    check_geometry(unet, spec, config.source)
    if unet.config.in_channels != channels:
        replace_conv_in(unet, channels)
    if unet.config.out_channels != channels:
        replace_conv_out(unet, channels, zero=False)
    prompts = encode_prompts(config.source, (config.positive_prompt, config.negative_prompt))
    wanted = (2, spec.prompt_tokens, spec.prompt_channels)
    if prompts.shape != wanted:
        raise ValueError(
            f"{config.source}'s text encoder gives embeddings of {tuple(prompts.shape)}, and {spec.name} takes "
            f"{wanted}; pass another --source."
        )
    return unet.requires_grad_(True).train(), prompts, form

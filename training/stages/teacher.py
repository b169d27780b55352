"""Stage `teacher`: the one-step GenDR, `D(f(E(x)))`, on the latents of a frozen autoencoder.

    L = wl |z_gt - z|_1 + wp |y_gt - D(z)|_1 + wa softplus(-Disc(z)) + ws L_score

The last two are GenDR's (arXiv 2503.06790) and need a base model, which starts the student, gives the discriminator
its features, and is the real-score network. Without one, as at `mini`, the teacher is supervised alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import Autoencoder, build_unet, initial_prompts, predict
from gendrpix.restore.pipelines import GenDRPipeline, GenDRPixPipeline
from gendrpix.specs import PATCH, ModelSpec, find_model
from training.config import TeacherConfig
from training.data.loader import fitting_batches
from training.initializers.identity import start_as_identity
from training.initializers.transplant import take_body
from training.loop.discriminator import Discriminator
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained, load_trained_autoencoder
from training.loop.run import Run
from training.loop.validation import open_samples, validate
from training.losses.adversarial import FrozenFeatures, positives
from training.losses.alignment import Alignment
from training.losses.pixel import l1_loss
from training.losses.score_distillation import ScoreDistillation
from training.trainable import keep_trainable


def train(config: TeacherConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported pipeline."""
    # Set-up
    adversarial = config.backbone != "none" and config.adversarial_weight > 0
    scored = config.score != "none" and config.score_weight > 0
    if (adversarial or scored) and not config.base:
        wish = f"--score {config.score}" if scored else f"--backbone {config.backbone}"
        raise ValueError(
            f"{wish} needs a base model, and none was named: pass --base with the folder of one (the stage `base` "
            "makes it), or --score none --backbone none for a supervised teacher."
        )
    run = Run(config, "teacher")
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, checked = open_samples(config, device)

    # Models
    spec = find_model(config.model)
    autoencoder = load_trained_autoencoder(config.autoencoder, spec).to(device)
    keep_trainable(autoencoder, trainable=False)
    codec = LatentCodec(autoencoder)
    base = load_trained(GenDRPipeline, config.base, "--base", spec, vae=autoencoder).to(device) if config.base else None
    unet, prompts, form, how = _start(config, spec, autoencoder, base)
    if config.body:
        body = load_trained(GenDRPixPipeline, config.body, "--body", spec).to(device)
        attend_as(spec, body.unet)
        prompts, form = body.prompts, "direct"
        if run.fresh:
            count = run.fit_count(config.fit_crops)
            unet = take_body(body, codec, lambda task: fitting_batches(task, crops, count, device, quiet=run.quiet))
            unet.requires_grad_(True).train()
    attend_as(spec, unet)
    prompts = prompts.to(device)
    run.place(unet)
    if loop.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if base is not None:
        keep_trainable(base.unet, trainable=False)
    if adversarial:
        assert base is not None
        features = FrozenFeatures(base.unet, prompts[:1], how["timestep"])
        judge = Discriminator(config, run, features.channels)
        begun = fitting_batches("teacher: whitening", crops, config.whitening_crops, device, quiet=run.quiet)
        judge.whiten(features(codec.encode(b["hq"])) for b in begun)
        if loop.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
    if scored:
        assert base is not None
        scores = ScoreDistillation(config, base.unet, prompts, base.config.form)
    alignment = None
    if config.alignment_weight:
        alignment = Alignment(config.alignment_encoder, unet, device, loop.learning_rate)

    def student(hidden: Tensor, prompt: Tensor) -> Tensor:
        """Latents => restored latents."""
        return predict(unet, hidden, prompt, form=form, **how)

    # Optimisers
    optimizer = run.optimizer(unet.parameters())
    unet, optimizer = accelerator.prepare(unet, optimizer)
    ema = Ema(accelerator.unwrap_model(unet), loop.ema_decay)
    accelerator.register_for_checkpointing(ema)
    if adversarial:
        accelerator.register_for_checkpointing(*judge.states)
    if scored:
        accelerator.register_for_checkpointing(*scores.states)
    if alignment is not None:
        accelerator.register_for_checkpointing(alignment.projector, alignment.optimizer)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        negative, indices = batch["negative"], batch["index"].tolist()
        aim = batch.get("taught", batch["hq"])  # a pixel teacher's picture in place of the truth
        target_pixels = torch.where(negative[:, None, None, None], batch["lq"], aim)
        with run.computing(unet):
            with torch.no_grad():
                z_lq, z_target = codec.encode(torch.cat([batch["lq"], target_pixels])).chunk(2)

            # Generator phase: the terms of a distribution see the samples trained with c_pos alone
            shown = positives(negative, config.data.negative_probability)
            z = student(z_lq, prompts[negative.long()]).float()
            latent = l1_loss(z, z_target)
            loss = config.latent_weight * latent
            terms = {"latent": latent.detach()}
            if config.pixel_weight:
                z_part, y_part = _same_part(z, target_pixels, config.pixel_crop_px, step)
                pixel = l1_loss(codec.decode(z_part).float(), y_part)
                loss = loss + config.pixel_weight * pixel
                terms["pixel"] = pixel.detach()
            judged = adversarial and step >= config.adversarial_start
            if judged:
                fooled = judge.fooled(features(z), shown)
                loss = loss + config.adversarial_weight * fooled
                terms["generator"] = fooled.detach()
            if scored:
                score = scores.term(z, z_target, indices, shown)
                loss = loss + config.score_weight * score
                terms[config.score] = score.detach()
            if alignment is not None:
                aligned, follow = alignment.term(target_pixels)
                loss = loss + config.alignment_weight * aligned
                terms["alignment"] = aligned.detach()
            run.update(loss, optimizer, unet.parameters(), run.learning_rate_at(step, loop.learning_rate), step)

            # Discriminator phase
            if judged:
                with torch.no_grad():
                    maps = [features(latents) for latents in (z_target, z.detach())]
                terms |= judge.learn(maps[0], maps[1], shown, step)

            # Phases of the score networks and of the projector
            if scored:
                rate = config.fake_learning_rate
                terms |= _follow(scores, run, (z, z_target), indices, shown, step, rate)
            if alignment is not None:
                parameters = alignment.projector.parameters()
                run.update_replica(follow(), alignment.optimizer, parameters, loop.learning_rate, step)
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
    if alignment is not None:
        alignment.close()
    own = finished(accelerator, unet, ema)
    pipeline = GenDRPipeline(
        unet=own,
        vae=autoencoder,
        prompts=prompts,
        form=form,
        **how,
        pattern_tokens=config.pattern_tokens,
        model=spec.name,
    )
    weights = export(accelerator, {"gendr": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "gendr"


def _start(
    config: TeacherConfig, spec: ModelSpec, autoencoder: Autoencoder, base: GenDRPipeline | None
) -> tuple[UNet2DConditionModel, Tensor, str, dict[str, Any]]:
    """The student's first weights, prompt embeddings, form, and timestep and level of its one step.

    They are those of an earlier GenDR, of the base, or random ones; the settings change the last two.
    """
    asked = {"timestep": config.timestep if config.timestep >= 0 else None, "alpha_bar": config.alpha_bar or None}
    how: dict[str, Any] = {"timestep": spec.timestep, "alpha_bar": None}
    if config.start:
        begun = load_trained(GenDRPipeline, config.start, "--start", spec, vae=autoencoder)
        how = {"timestep": begun.config.timestep, "alpha_bar": begun.alpha_bar}
    how |= {name: value for name, value in asked.items() if value is not None}
    if config.start:
        return begun.unet.requires_grad_(True).train(), begun.prompts, begun.config.form, how
    if base is not None:
        return copy.deepcopy(base.unet).requires_grad_(True).train(), base.prompts, base.config.form, how
    form = spec.forms["gendr"]
    unet = build_unet(spec, spec.latent_channels, spec.latent_channels)
    if form == "residual":
        torch.nn.init.zeros_(unet.conv_out.weight)  # begins as the identity
    elif form == "direct":
        start_as_identity(unet)
    return unet, initial_prompts(spec, config.loop.seed), form, how


def _follow(
    scores: ScoreDistillation,
    run: Run,
    latents: tuple[Tensor, Tensor],
    indices: Sequence[int],
    shown: Tensor,
    step: int,
    rate: float,
) -> dict[str, Tensor]:
    """One step of each score network that is trained, on the student's latents and the truth's; the terms to report."""
    losses = {"fake": scores.follow(latents[0], indices, shown)}
    if scores.learning_real is not None:
        losses["real"] = scores.follow_truth(latents[1], indices, shown)
    for loss, network, optimizer in zip(losses.values(), scores.trained, scores.optimizers, strict=True):
        run.update_replica(loss, optimizer, network.trained.values(), rate, step)
    return {name: loss.detach() for name, loss in losses.items()}


def _same_part(z: Tensor, pixels: Tensor, crop_px: int, step: int) -> tuple[Tensor, Tensor]:
    """One part of the latents and the same part of the pixels, its place moving with the step.

    The decoder is the dearest part of the step, and a part of each crop teaches as well as the whole.
    """
    side, height, width = crop_px // PATCH, z.shape[-2], z.shape[-1]
    side = min(side, height, width)
    top, left = (step * 7) % (height - side + 1), (step * 13) % (width - side + 1)
    part = pixels[..., top * PATCH : (top + side) * PATCH, left * PATCH : (left + side) * PATCH]
    return z[..., top : top + side, left : left + side], part

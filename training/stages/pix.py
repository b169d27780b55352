"""Stage II, `pix`: GenDR-Pix. The decoder goes too; the UNet writes the pixel-unshuffled picture (arXiv 2602.10630).

    L = |y_tea - y_stu|_1 + l1 * softplus(-Disc(y_stu)) + l2 * L_P + l3 * L_F

The discriminator's features are GenDR-Adc's, on `U8(randpad(y))`: it knows the 8-pixel grid, but not its phase.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import predict, replace_conv_out
from gendrpix.models.pattern import without_pattern
from gendrpix.restore.pipelines import GenDRAdcPipeline, GenDRPipeline, GenDRPixPipeline
from gendrpix.specs import RESTORER_SPECS, ModelSpec, find_model
from training.config import PixConfig
from training.data.loader import fitting_batches
from training.initializers.least_squares import fit_conv_out
from training.initializers.subpatch import share_gradients
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained
from training.loop.run import Run
from training.loop.teacher_cache import open_targets
from training.loop.validation import open_samples, validate
from training.losses.adversarial import FrozenFeatures, positives
from training.losses.perceptual import build_perceptual_loss
from training.losses.pixel import l1_loss
from training.losses.randpad import through_padding
from training.stages.pix_terms import PictureTerms, Shown, pattern_terms, shift_term
from training.trainable import keep_trainable

logger = logging.getLogger(__name__)


def train(config: PixConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported pipeline."""
    # Set-up
    run = Run(config, "pix", divisible=not config.share_quarters)
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, checked = open_samples(config, device)

    # Models
    spec = find_model(config.model)
    teacher = load_trained(GenDRPipeline, config.teacher, "--teacher", spec).to(device)
    adc = load_trained(GenDRAdcPipeline, config.adc, "--adc", spec, vae=teacher.vae).to(device)
    prompts = adc.prompts.to(device)
    for frozen in (teacher.unet, teacher.vae, adc.unet):
        keep_trainable(frozen, trainable=False)
    latents, pixel_grid = LatentCodec(teacher.vae), PixelCodec()
    form = spec.forms["gendr-pix"]
    unet = _start(config, adc, spec)
    attend_as(spec, unet)

    def student(pixels: Tensor, prompt: Tensor) -> Tensor:
        """Pixels => restored pixels, as the exported pipeline restores them."""
        hidden = predict(unet, pixel_grid.encode(pixels), prompt, timestep=adc.config.timestep, form=form)
        return without_pattern(pixel_grid.decode(hidden), pixels, config.pattern_tokens)

    def teach(pixels: Tensor) -> Tensor:
        """Pixels => the teacher's restoration."""
        z = latents.encode(pixels)
        z = predict(teacher.unet, z, prompts[:1], **teacher.one_step)
        return latents.decode(z).float()

    def taught(pixels: Tensor) -> dict[str, Tensor]:
        """`teach`, as the cache of targets takes it."""
        return {"teacher": teach(pixels)}

    def aimed(batch: dict[str, Tensor], y: Tensor) -> Tensor:
        """What each sample learns where `c_pos` learns `y`."""
        other = batch["hq" if config.negative_target == "truth" else "lq"]
        return torch.where(batch["negative"][:, None, None, None], other, y)

    def wanted(start: int, count: int) -> Iterator[Tensor]:
        """Run the student on samples, yielding what its `conv_out` should have given: the truth, where it counts."""
        for batch in fitting_batches("pix: conv_out", crops, count, device, start=start, quiet=run.quiet):
            x = batch["lq"]
            student(x, prompts[batch["negative"].long()])
            target = batch["hq"] if config.truth_weight else batch["taught"] if "taught" in batch else teach(x)
            target = aimed(batch, target)
            yield pixel_grid.encode(target - x if form == "residual" else target)

    if config.fit_crops and not config.start and run.fresh:
        share = fit_conv_out(unet, wanted(0, run.fit_count(config.fit_crops)))
        logger.info("pix: the fitted conv_out gives %.1f%% of what it should add", 100 * share)
    run.place(unet)
    if config.share_quarters:
        share_gradients(unet)
    seen = adc.unet if config.backbone == "adc" else teacher.unet
    if config.backbone == "start":
        seen = copy.deepcopy(unet)
    if loop.gradient_checkpointing:
        for differentiated in (unet, seen):
            differentiated.enable_gradient_checkpointing()
    targets = open_targets(config, "pix", teacher, crops)
    features = FrozenFeatures(seen, prompts[:1], adc.config.timestep)

    def judged_maps(y: Tensor) -> list[Tensor]:
        """Pixels => the discriminator backbone's feature maps: of E(y) for GenDR, else of U8(y)."""
        maps: list[Tensor] = features((latents if config.backbone == "gendr" else pixel_grid).encode(y))
        return maps

    perceptual_loss = build_perceptual_loss(config.perceptual, teacher.vae, device)
    judging = judged_maps if config.backbone != "none" else None
    picture_terms = PictureTerms(config, run, perceptual_loss, judging, features.channels)
    picture_terms.whiten(fitting_batches("pix: whitening", crops, config.whitening_crops, device, quiet=run.quiet))

    # Optimisers
    optimizer = run.optimizer(unet.parameters())
    unet, optimizer = accelerator.prepare(unet, optimizer)
    ema = Ema(accelerator.unwrap_model(unet), loop.ema_decay)
    accelerator.register_for_checkpointing(ema, *picture_terms.states)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        negative, indices = batch["negative"], batch["index"].tolist()
        y_truth = aimed(batch, batch["hq"])
        with run.computing(unet):
            # Teacher
            y_teacher = y_truth
            if config.distill_weight or config.real == "teacher":
                y_taught = batch.get("taught")
                if y_taught is None:
                    with torch.no_grad():
                        y_taught = targets(indices, partial(taught, batch["lq"]), device)["teacher"]
                y_teacher = aimed(batch, y_taught)

            # Generator phase
            restore = partial(student, prompt=prompts[negative.long()])
            y_student = through_padding(
                restore, batch["lq"], step, indices, loop.seed, config.padded_probability
            ).float()
            distill, truth = l1_loss(y_student, y_teacher), l1_loss(y_student, y_truth)
            reference = y_truth if config.real == "truth" else y_teacher
            by_pattern, pattern = pattern_terms(config, y_student, reference)
            by_shift, shifted = shift_term(config, restore, batch["lq"], y_student, indices)
            loss = config.distill_weight * distill + config.truth_weight * truth + by_pattern + by_shift
            terms = {"distill": distill.detach(), "truth": truth.detach(), **pattern, **shifted}
            felt = ~negative if config.negative_target == "truth" else torch.ones_like(negative)
            shown = Shown(step, indices, felt, positives(negative, config.data.negative_probability))
            by_sight, seen_terms = picture_terms.generator(y_student, reference, shown)
            lr = run.learning_rate_at(step, loop.learning_rate)
            run.update(loss + by_sight, optimizer, unet.parameters(), lr, step)

            # Discriminator phase
            terms |= seen_terms | picture_terms.discriminator(reference, shown)
        if not accelerator.sync_gradients:
            continue
        ema.step(unet.parameters())
        run.report(bar, step + 1, terms)

        if run.due(step + 1, loop.sample_every):
            with averaged(ema, accelerator.unwrap_model(unet)):
                figures = validate(lambda x: student(x, prompts[:1]), checked, run.sample_picture(step + 1))
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    targets.flush()
    own = unet = finished(accelerator, unet, ema)
    if config.finish_crops:
        with torch.no_grad():
            seen_crops = loop.steps * loop.batch * loop.accumulate * accelerator.num_processes
            fit_conv_out(own, wanted(seen_crops, config.finish_crops), ridge=0.5)
            figures = validate(lambda x: student(x, prompts[:1]), checked, run.sample_picture(loop.steps))
        logger.info("pix: after the fit of conv_out: held-out PSNR %.3f", figures["held_out_psnr"])
    pipeline = GenDRPixPipeline(
        unet=own,
        prompts=prompts,
        form=form,
        timestep=adc.config.timestep,
        pattern_tokens=config.pattern_tokens,
        model=spec.name,
    )
    weights = export(accelerator, {"gendr-pix": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "gendr-pix"


def _start(config: PixConfig, adc: GenDRAdcPipeline, spec: ModelSpec) -> UNet2DConditionModel:
    """The student's first weights: an earlier GenDR-Pix, or GenDR-Adc with a new `conv_out`."""
    if config.start:
        unet: UNet2DConditionModel = load_trained(GenDRPixPipeline, config.start, "--start", spec).unet
    else:
        _, out_channels = RESTORER_SPECS["gendr-pix"].channels(spec)
        residual = spec.forms["gendr-pix"] == "residual"
        unet = replace_conv_out(copy.deepcopy(adc.unet), out_channels, zero=residual)
    unet.requires_grad_(True).train()
    return unet

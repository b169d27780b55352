"""Stage I, `adc`: GenDR-Adc. The encoder goes; the UNet reads the pixel-unshuffled picture (arXiv 2602.10630).

L = |z_tea - z_stu|_1 + l1 * softplus(-Disc(z_stu)), the discriminator's features being the GenDR UNet's
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import predict
from gendrpix.restore.pipelines import GenDRAdcPipeline, GenDRPipeline
from gendrpix.specs import find_model
from training.config import AdcConfig
from training.data.loader import fitting_batches
from training.initializers.ends import begin_adc, fit_adc
from training.loop.discriminator import Discriminator
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained
from training.loop.run import Run
from training.loop.teacher_cache import open_targets
from training.loop.validation import open_samples, validate
from training.losses.adversarial import FrozenFeatures, positives
from training.losses.pixel import l1_loss
from training.trainable import keep_trainable


def train(config: AdcConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported pipeline."""
    # Set-up
    if config.backbone in ("adc", "start"):
        raise ValueError('Stage I writes latents, and only a GenDR can judge them: backbone must be "gendr" or "none".')
    run = Run(config, "adc")
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, checked = open_samples(config, device)

    # Models
    spec = find_model(config.model)
    teacher = load_trained(GenDRPipeline, config.teacher, "--teacher", spec).to(device)
    teacher_unet, prompts = keep_trainable(teacher.unet, trainable=False), teacher.prompts.to(device)
    keep_trainable(teacher.vae, trainable=False)
    latents, pixel_grid = LatentCodec(teacher.vae), PixelCodec()
    unet = begin_adc(teacher, spec)
    if config.fit_crops and run.fresh:
        count = run.fit_count(config.fit_crops)
        fit_adc(unet, teacher, lambda task: fitting_batches(task, crops, count, device, quiet=run.quiet))
    run.place(unet)
    if loop.gradient_checkpointing:
        for differentiated in (unet, teacher.unet):
            differentiated.enable_gradient_checkpointing()
    targets = open_targets(config, "adc", teacher, crops)
    features = FrozenFeatures(teacher.unet, prompts[:1], teacher.config.timestep)
    adversarial = config.backbone != "none" and config.adversarial_weight > 0
    judge = Discriminator(config, run, features.channels)
    if adversarial:
        begun = fitting_batches("adc: whitening", crops, config.whitening_crops, device, quiet=run.quiet)
        judge.whiten(features(latents.encode(b["hq"])) for b in begun)

    def student(pixels: Tensor, prompt: Tensor) -> Tensor:
        """Pixels => restored latents."""
        return predict(
            unet, pixel_grid.encode(pixels), prompt, timestep=teacher.config.timestep, form=spec.forms["gendr-adc"]
        )

    def teach(pixels: Tensor, truth: Tensor, negative: Tensor) -> dict[str, Tensor]:
        """The latents of the teacher's restoration and of the truth; a negative sample's target is its own input."""
        z_lq, z_truth = latents.encode(torch.cat([pixels, truth])).chunk(2)
        z = predict(teacher_unet, z_lq, prompts[:1], **teacher.one_step)
        return {"teacher": torch.where(negative[:, None, None, None], z_lq, z), "truth": z_truth}

    # Optimisers
    optimizer = run.optimizer(unet.parameters())
    unet, optimizer = accelerator.prepare(unet, optimizer)
    ema = Ema(accelerator.unwrap_model(unet), loop.ema_decay)
    accelerator.register_for_checkpointing(ema, *judge.states)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        negative = batch["negative"]
        target_pixels = torch.where(negative[:, None, None, None], batch["lq"], batch["hq"])
        with run.computing(unet):
            # Teacher
            with torch.no_grad():
                taught = targets(batch["index"].tolist(), partial(teach, batch["lq"], target_pixels, negative), device)
                z_teacher, z_truth = taught["teacher"], taught["truth"]

            # Generator phase
            z_student = student(batch["lq"], prompts[negative.long()]).float()
            distill, truth = l1_loss(z_student, z_teacher), l1_loss(z_student, z_truth)
            loss = config.distill_weight * distill + config.truth_weight * truth
            terms = {"distill": distill.detach(), "truth": truth.detach()}
            judged = adversarial and step >= config.adversarial_start
            shown = positives(negative, config.data.negative_probability)
            if judged:
                fooled = judge.fooled(features(z_student), shown)
                loss = loss + config.adversarial_weight * fooled
                terms["generator"] = fooled.detach()
            lr = run.learning_rate_at(step, loop.learning_rate)
            run.update(loss, optimizer, unet.parameters(), lr, step)

            # Discriminator phase
            if judged:
                real = z_teacher if config.real == "teacher" else z_truth
                with torch.no_grad():
                    maps = [features(z) for z in (real, z_student.detach())]
                terms |= judge.learn(maps[0], maps[1], shown, step)
        if not accelerator.sync_gradients:
            continue
        ema.step(unet.parameters())
        run.report(bar, step + 1, terms)

        if run.due(step + 1, loop.sample_every):
            with averaged(ema, accelerator.unwrap_model(unet)):
                figures = validate(
                    lambda x: latents.decode(student(x, prompts[:1])),
                    checked,
                    run.sample_picture(step + 1),
                )
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    targets.flush()
    own = finished(accelerator, unet, ema)
    pipeline = GenDRAdcPipeline(
        unet=own,
        vae=teacher.vae,
        prompts=prompts,
        form=spec.forms["gendr-adc"],
        timestep=teacher.config.timestep,
        pattern_tokens=config.pattern_tokens,
        model=spec.name,
    )
    weights = export(accelerator, {"gendr-adc": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "gendr-adc"

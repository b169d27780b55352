"""Stage `finest`: the residual blocks of GenDR-Pix's finest level, trained alone where they learn fastest.

The network that is trained works on patches of 4 x 4 pixels; its weights are then written into the UNet, which works on
8 x 8 and computes exactly the same (`training.initializers.subpatch`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from gendrpix.models.networks import build_unet, initial_prompts
from gendrpix.restore.pipelines import GenDRPixPipeline
from gendrpix.specs import RESTORER_SPECS, find_model
from training.config import FinestConfig
from training.initializers.subpatch import SubpatchNetwork, read_from, write_into
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained
from training.loop.run import Run
from training.loop.validation import open_samples, validate
from training.losses.perceptual import build_perceptual_loss
from training.losses.pixel import l1_loss
from training.losses.randpad import draw_offsets, randpad, through_padding


def train(config: FinestConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported GenDR-Pix."""
    # Set-up
    run = Run(config, "finest", divisible=False)
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, checked = open_samples(config, device)

    # Models
    spec = find_model(config.model)
    if spec.forms["gendr-pix"] != "residual":
        raise ValueError(f"GenDR-Pix of {spec.name!r} has the form {spec.forms['gendr-pix']!r}; expected residual.")
    if config.start:
        start = load_trained(GenDRPixPipeline, config.start, "--start", spec)
        unet, prompts = start.unet, start.prompts
    else:
        unet, prompts = build_unet(spec, *RESTORER_SPECS["gendr-pix"].channels(spec)), initial_prompts(spec)
    subpatch = SubpatchNetwork(unet)
    if config.start:
        read_from(subpatch, unet)
    run.place(subpatch)
    perceptual_loss = build_perceptual_loss(config.perceptual, None, device) if config.perceptual_weight else None
    optimizer = run.optimizer(subpatch.parameters())
    subpatch, optimizer = accelerator.prepare(subpatch, optimizer)
    ema = Ema(accelerator.unwrap_model(subpatch), loop.ema_decay)
    accelerator.register_for_checkpointing(ema)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        with run.computing(subpatch):
            indices = batch["index"].tolist()
            restored = through_padding(subpatch, batch["lq"], step, indices, loop.seed, config.padded_probability)
            restored = restored.float()
            truth = l1_loss(restored, batch["hq"])
            loss, terms = config.truth_weight * truth, {"truth": truth.detach()}
            if "taught" in batch:
                distill = l1_loss(restored, batch["taught"])
                loss = loss + config.distill_weight * distill
                terms["distill"] = distill.detach()
            if perceptual_loss is not None:
                offsets = draw_offsets(indices, loop.seed, 1)
                seen = (randpad(picture, offsets) for picture in (restored, batch.get("taught", batch["hq"])))
                perceptual = perceptual_loss(*seen)
                loss = loss + config.perceptual_weight * perceptual
                terms["perceptual"] = perceptual.detach()
            run.update(loss, optimizer, subpatch.parameters(), run.learning_rate_at(step, loop.learning_rate), step)
        if not accelerator.sync_gradients:
            continue
        ema.step(subpatch.parameters())
        run.report(bar, step + 1, terms)
        if run.due(step + 1, loop.sample_every):
            own = accelerator.unwrap_model(subpatch)
            with averaged(ema, own):
                figures = validate(own, checked, run.sample_picture(step + 1))
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    write_into(finished(accelerator, subpatch, ema), unet)
    pipeline = GenDRPixPipeline(unet=unet, prompts=prompts, form="residual", timestep=spec.timestep, model=spec.name)
    weights = export(accelerator, {"gendr-pix": pipeline}, run.folder / "weights")
    run.finish()
    return weights / "gendr-pix"

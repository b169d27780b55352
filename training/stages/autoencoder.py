"""Stage `autoencoder`: the small 8x, 16-channel autoencoder of the `mini` family.

It reconstructs clean crops and, in the share `data.negative_probability`, degraded ones: what a restorer writes is
smoother than a photo, and a decoder that never met smooth pictures writes a pattern of 8 pixels into them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import build_autoencoder
from gendrpix.specs import find_model
from training.config import AutoencoderConfig
from training.data.crops import Crops, open_crops
from training.initializers.pca import principal_components, start_from_components
from training.loop.ema import Ema, averaged
from training.loop.export import export, finished, load_trained_autoencoder
from training.loop.run import Run
from training.loop.validation import held_out, validate
from training.losses.pixel import harmonics_loss, mfs_loss


def train(config: AutoencoderConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported weights."""
    # Set-up
    run = Run(config, "autoencoder", divisible=False)
    accelerator, loop = run.accelerator, config.loop
    torch.manual_seed(loop.seed)

    # Data
    crops, held_out_crops = open_crops(config.data, seed=loop.seed)
    checked = held_out(held_out_crops, 16, accelerator.device)
    checked["lq"] = checked["hq"]  # what is judged is how well a photo comes back

    # Model
    model = _start(config)
    if config.start == "principal" and run.fresh:
        _start_from_principal_components(model, crops, config.start_crops)
    run.place(model)

    # Optimiser
    optimizer = run.optimizer(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    ema = Ema(accelerator.unwrap_model(model), loop.ema_decay)
    accelerator.register_for_checkpointing(ema)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        pixels = torch.where(batch["negative"][:, None, None, None], batch["lq"], batch["hq"])
        with run.computing(model):
            output: Tensor = model(pixels).sample.float()
            l1, l2 = F.l1_loss(output, pixels), F.mse_loss(output, pixels)
            mfs = mfs_loss(output, pixels)
            harmonics = harmonics_loss(output, pixels)
            loss = config.l1_weight * l1 + config.l2_weight * l2
            loss = loss + config.mfs_weight * mfs + config.harmonics_weight * harmonics
            run.update(loss, optimizer, model.parameters(), run.learning_rate_at(step, loop.learning_rate), step)
        if not accelerator.sync_gradients:
            continue
        ema.step(model.parameters())
        run.report(bar, step + 1, {"l1": l1, "l2": l2, "mfs": mfs, "harmonics": harmonics})

        if run.due(step + 1, loop.sample_every):
            with averaged(ema, accelerator.unwrap_model(model)):
                figures = validate(lambda x: model(x).sample, checked, run.sample_picture(step + 1))
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    own = finished(accelerator, model, ema).to(accelerator.device)
    if not config.decoder_only:
        own.register_to_config(scaling_factor=_latent_scale(own, checked["hq"]))
    weights = export(accelerator, {"autoencoder": own}, run.folder / "weights")
    run.finish()
    return weights


def _start(config: AutoencoderConfig) -> AutoencoderDC:
    """The first weights: an earlier autoencoder's, or new ones."""
    spec = find_model(config.model)
    named = config.start not in ("principal", "random")
    model = load_trained_autoencoder(config.start, spec) if named else build_autoencoder(spec)
    if not isinstance(model, AutoencoderDC):
        raise ValueError(f"{config.model} uses a ready-made autoencoder; only `mini`'s is trained here.")
    model.requires_grad_(True).train()
    model.encoder.requires_grad_(not config.decoder_only)
    return model


def _start_from_principal_components(model: AutoencoderDC, crops: Crops, count: int) -> None:
    """Half-whitened: the gain is one over the root of a component's deviation, between equal loss and equal size."""
    samples = tqdm(crops.samples(0, count), "autoencoder: components", count, unit="crop", mininterval=10)
    pictures = (sample.hq[None] for sample in samples)
    rows, deviations = principal_components(pictures, model.config.latent_channels)
    start_from_components(model, rows, deviations.clamp_min(1e-3).rsqrt())


@torch.inference_mode()
def _latent_scale(model: AutoencoderDC, pixels: Tensor) -> float:
    """The factor that gives the latents of `pixels` unit variance."""
    model.register_to_config(scaling_factor=1.0)
    return 1.0 / float(LatentCodec(model.eval()).encode(pixels).std())

"""Stage `autoencoder`: the small 8x, 16-channel autoencoder of the `mini` family.

It reconstructs clean crops and, in the share `data.negative_probability`, degraded ones: what a restorer writes is
smoother than a photo, and a decoder that never met smooth pictures writes a pattern of 8 pixels into them.

With a `restorer` its decoder learns, in that share, to decode to the truth what a GenDR makes of degraded crops, and
may be judged there by the terms of pictures; the encoder stays. The GenDR is frozen, or learns with the decoder
(`train_restorer`) and is exported as well: the teacher of a GenDR-Adc.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.attention import attend_as
from gendrpix.codecs import LatentCodec, without_pattern
from gendrpix.networks import build_autoencoder, predict
from gendrpix.pipelines import GenDRPipeline
from gendrpix.specs import find_model
from training.average import Average, averaged
from training.checkpoint import export, finished, load_trained, load_trained_autoencoder
from training.config import AutoencoderConfig
from training.data import Crops, open_crops
from training.losses import mfs_loss, positives
from training.perceptual import build_perceptual_loss, encoder_maps
from training.picture_terms import PictureTerms, Shown
from training.principal import principal_components, start_from_components
from training.run import Run, keep_trainable
from training.validation import held_out, validate


class Autoencoding(nn.Module):
    """The autoencoder as it is trained: what it makes of pixels, of which some go through a GenDR on the way."""

    def __init__(self, autoencoder: AutoencoderDC, restorer: GenDRPipeline | None) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.unet = restorer.unet if restorer is not None else None
        self._codec = LatentCodec(autoencoder)
        self._restorer = restorer

    def forward(self, clean: Tensor, degraded: Tensor, chosen: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] twice, and (B,) bool: whose degraded picture is to be decoded; => the same shape.

        The chosen ones' latents are the GenDR's, where there is one, and the result is without the pattern that the
        GenDR will take away.
        """
        marked = chosen[:, None, None, None]
        pixels = torch.where(marked, degraded, clean)
        if self._restorer is None:
            decoded: Tensor = self.autoencoder(pixels).sample
            return decoded
        z, settings = self._codec.encode(pixels), self._restorer.config
        prompt = self._restorer.prompts[:1].to(z.device)
        restored = predict(self.unet, z, prompt, timestep=settings.timestep, form=settings.form)  # type: ignore[arg-type]
        decoded = self._codec.decode(torch.where(marked, restored, z))
        return torch.where(marked, without_pattern(decoded, degraded, settings.pattern_tokens), decoded)

    def restore(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] => what becomes of them where all are chosen."""
        result: Tensor = self(pixels, pixels, torch.ones(len(pixels), dtype=torch.bool, device=pixels.device))
        return result


def train(config: AutoencoderConfig) -> Path:
    """Train, resuming where the run folder stands; returns the folder of the exported weights."""
    # Set-up
    run = Run(config, "autoencoder")
    accelerator, loop = run.accelerator, config.loop
    device = accelerator.device
    torch.manual_seed(loop.seed)

    # Data
    crops, held_out_crops = open_crops(config.data, seed=loop.seed)
    checked = held_out(held_out_crops, 16, device)
    if not config.restorer:
        checked["lq"] = checked["hq"]  # what is judged is how well a photo comes back

    # Models
    autoencoder = _start(config)
    if config.start == "principal" and run.fresh:
        _start_from_principal_components(autoencoder, crops, config.start_crops)
    autoencoder.to(device, memory_format=torch.channels_last)
    restorer = _restorer(config, autoencoder, device) if config.restorer else None
    model: nn.Module = Autoencoding(autoencoder, restorer)
    ema = Average(model, loop.ema_decay)
    maps = partial(encoder_maps, autoencoder.encoder) if config.backbone == "encoder" else None
    widths = [one.shape[1] for one in maps(checked["hq"][:1])] if maps else []
    perceptual_loss = build_perceptual_loss(config.perceptual, autoencoder, device)
    picture_terms = PictureTerms(config, run, perceptual_loss, maps, widths)

    # Optimiser
    optimizer = run.optimizer(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(ema, *picture_terms.states)

    # Resume
    first_step = run.resume()
    bar = run.progress(first_step)

    # Loop
    for step, batch in run.batches(crops, first_step):
        chosen, target = batch["negative"], batch["hq"]
        if not config.restorer:
            target = torch.where(chosen[:, None, None, None], batch["lq"], target)
        with run.computing(model):
            # Generator phase
            output = model(batch["hq"], batch["lq"], chosen).float()
            l1, l2 = F.l1_loss(output, target), F.mse_loss(output, target)
            mfs = mfs_loss(output, target)
            loss = config.l1_weight * l1 + config.l2_weight * l2 + config.mfs_weight * mfs
            weights = positives(~chosen, 1 - config.data.negative_probability)
            shown = Shown(step, batch["index"].tolist(), chosen, weights)
            by_sight, terms = picture_terms.generator(output, target, shown)
            lr = run.learning_rate_at(step, loop.learning_rate)
            run.update(loss + by_sight, optimizer, model.parameters(), lr, step)

            # Discriminator phase
            terms |= picture_terms.discriminator(target, shown)
        if not accelerator.sync_gradients:
            continue
        ema.step(model.parameters())
        run.report(bar, step + 1, {"l1": l1.detach(), "l2": l2.detach(), "mfs": mfs.detach(), **terms})

        if run.due(step + 1, loop.sample_every):
            own = accelerator.unwrap_model(model)
            with averaged(ema, own):
                figures = validate(own.restore, checked, run.sample_picture(step + 1))
            run.judge(step + 1, figures)
        if run.due(step + 1, loop.checkpoint_every):
            run.save(step + 1)

    # Export
    own = finished(accelerator, model, ema).to(device)
    if not config.decoder_only:
        own.autoencoder.register_to_config(scaling_factor=_latent_scale(own.autoencoder, checked["hq"]))
    trained: dict[str, Any] = {"autoencoder": own.autoencoder}
    if restorer is not None and config.train_restorer:
        restorer.register_modules(unet=own.unet, vae=own.autoencoder)
        trained["gendr"] = restorer
    exported = export(accelerator, trained, run.folder / "weights")
    run.finish()
    return exported


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


def _restorer(config: AutoencoderConfig, autoencoder: AutoencoderDC, device: torch.device) -> GenDRPipeline:
    """The GenDR whose latents are to be decoded, frozen unless it learns too."""
    spec = find_model(config.model)
    restorer = load_trained(GenDRPipeline, config.restorer, "--restorer", spec, vae=autoencoder)
    keep_trainable(restorer.unet, trainable=config.train_restorer)
    restorer.unet.to(device, memory_format=torch.channels_last)
    attend_as(spec, restorer.unet)
    return restorer


def _start_from_principal_components(model: AutoencoderDC, crops: Crops, count: int) -> None:
    """Half-whitened: the gain is one over the root of a component's deviation, between equal loss and equal size."""
    pictures = (sample.hq[None] for sample in crops.samples(0, count))
    rows, deviations = principal_components(pictures, model.config.latent_channels)
    start_from_components(model, rows, deviations.clamp_min(1e-3).rsqrt())


@torch.inference_mode()
def _latent_scale(model: AutoencoderDC, pixels: Tensor) -> float:
    """The factor that gives the latents of `pixels` unit variance."""
    model.register_to_config(scaling_factor=1.0)
    return 1.0 / float(LatentCodec(model.eval()).encode(pixels).std())

"""Held-out photos during a run: PSNR, and a grid of samples to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from training.config import StageConfig
from training.data.crops import NUM_HELD_OUT, Crops, crop_settings, open_held_out_crops, open_training_crops
from training.data.loader import sample_batches
from training.teachers.taught import FinishedStore, JoinedStore, TaughtCrops, open_store


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB over RGB, for pictures in [-1, 1]; the estimate `a` is clamped."""
    error = (a.clamp(-1, 1) - b).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def held_out(dataset: Any, count: int, device: torch.device) -> dict[str, Tensor]:
    """The first `count` samples of a held-out dataset as one batch."""
    return next(sample_batches(dataset, count, device, batch=count))


def open_samples(config: StageConfig, device: torch.device) -> tuple[Crops, dict[str, Tensor]]:
    """The training samples, and a batch of 16 held-out ones; both with "taught" where a pixel teacher is named."""
    checked = held_out(open_held_out_crops(config.data), NUM_HELD_OUT, device)
    if not config.taught.teacher:
        return open_training_crops(config.data, config.loop.seed), checked
    store = open_store(config.taught, config.data, config.run, device)
    checked["taught"] = store.teacher(checked["small"], checked["lq"])
    more = [FinishedStore(folder) for folder in config.taught.more]
    joined = JoinedStore([store, *more]) if more else store
    return TaughtCrops(joined, crop_settings(config.data), config.taught.uses, config.loop.seed), checked


def validate(restore: Callable[[Tensor], Tensor], batch: dict[str, Tensor], picture: Path | None) -> dict[str, float]:
    """PSNR of `restore(lq)` and of the input itself against `hq`, four pictures at a time.

    The input's own is left out where it is the truth, as for an autoencoder. Where the batch has a pixel teacher's
    pictures, the PSNR against those too. Writes rows of input, result, truth
    (and the teacher's) to `picture`, unless it is None.
    """
    result = torch.cat([restore(part) for part in batch["lq"].split(4)]).float().clamp(-1, 1)
    if picture is not None:
        columns = [batch["lq"], result, *(batch[name] for name in ("hq", "taught") if name in batch)]
        shown = torch.stack(columns, dim=1).flatten(0, 1)[: len(columns) * 4]
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_image(make_grid(shown, nrow=len(columns), value_range=(-1, 1), normalize=True), picture)
    figures = {"held_out_psnr": float(psnr(result, batch["hq"]).mean())}
    if batch["lq"] is not batch["hq"]:
        figures["held_out_psnr_input"] = float(psnr(batch["lq"], batch["hq"]).mean())
    if "taught" in batch:
        figures["held_out_psnr_to_teacher"] = float(psnr(result, batch["taught"]).mean())
    return figures

"""Held-out photos during a run: PSNR, and a grid of samples to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from training.data import sample_batches


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB over RGB, for pictures in [-1, 1]; the estimate `a` is clamped."""
    error = (a.clamp(-1, 1) - b).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def held_out(dataset: Any, count: int, device: torch.device) -> dict[str, Tensor]:
    """The first `count` samples of a held-out dataset as one batch."""
    return next(sample_batches(dataset, count, device, batch=count))


def validate(restore: Callable[[Tensor], Tensor], batch: dict[str, Tensor], picture: Path | None) -> dict[str, float]:
    """PSNR of `restore(lq)` and of the input itself against `hq`, four pictures at a time.

    Writes rows of input, result, truth to `picture`, unless it is None.
    """
    result = torch.cat([restore(part) for part in batch["lq"].split(4)]).float().clamp(-1, 1)
    if picture is not None:
        shown = torch.stack([batch["lq"], result, batch["hq"]], dim=1).flatten(0, 1)[: 3 * 4]
        picture.parent.mkdir(parents=True, exist_ok=True)
        save_image(make_grid(shown, nrow=3, value_range=(-1, 1), normalize=True), picture)
    return {
        "held_out_psnr": float(psnr(result, batch["hq"]).mean()),
        "held_out_psnr_input": float(psnr(batch["lq"], batch["hq"]).mean()),
    }

"""Held-out photos during a run: PSNR, and a grid of samples to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB over RGB, for pictures in [-1, 1]; the estimate `a` is clamped."""
    error = (a.clamp(-1, 1) - b).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


@contextmanager
def averaged(ema: EMAModel, model: nn.Module) -> Iterator[None]:
    """Inside, `model` has the averaged weights and no gradients; afterwards its own again."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        ema.restore(model.parameters())
        model.train(was_training)


def held_out(dataset: Any, count: int, device: torch.device) -> dict[str, Tensor]:
    """The first `count` samples of a held-out dataset as one batch."""
    items = [dataset[i] for i in range(count)]
    return {name: torch.stack([torch.as_tensor(item[name]) for item in items]).to(device) for name in items[0]}


def validate(restore: Callable[[Tensor], Tensor], batch: dict[str, Tensor], picture: Path) -> dict[str, float]:
    """PSNR of `restore(lq)` and of the input itself against `hq`; writes rows of input, result, truth to `picture`."""
    result = restore(batch["lq"]).float().clamp(-1, 1)
    shown = torch.stack([batch["lq"], result, batch["hq"]], dim=1).flatten(0, 1)[: 3 * 4]
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_image(make_grid(shown, nrow=3, value_range=(-1, 1), normalize=True), picture)
    return {
        "held_out_psnr": float(psnr(result, batch["hq"]).mean()),
        "held_out_psnr_input": float(psnr(batch["lq"], batch["hq"]).mean()),
    }

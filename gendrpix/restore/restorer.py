"""Restoring: the one act that the command line, the page, jobs, programs and comparisons share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from gendrpix.devices import pick_dtype
from gendrpix.image.color_fix import correct_color, without_chroma
from gendrpix.image.picture import Picture
from gendrpix.image.resize import check_output_size, output_size, resize, resize_alpha
from gendrpix.restore.guidance import Branches
from gendrpix.restore.network import OneStepNetwork
from gendrpix.restore.planner import restore_within
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import RESTORER_SPECS, Dtype


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a restoration gives back."""

    pixels: Tensor
    """(B, 3, H, W) in [-1, 1], on the restorer's device and in its dtype."""
    settings: RestoreSettings
    """How it was made, resolved: numbers for all that was left to the weights and the device."""
    branches: Branches | None = None
    """PadCFG's two branches before the mix, colours not corrected, if they were to be kept."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked for lack of memory, sentences."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[-1], self.pixels.shape[-2]

    def on_cpu(self) -> Result:
        """The same as float32 on the CPU."""
        branches = None if self.branches is None else Branches(*(branch.float().cpu() for branch in self.branches))
        return Result(pixels=self.pixels.float().cpu(), settings=self.settings, branches=branches, notes=self.notes)


class OneStepRestorer(OneStepNetwork):
    """A restorer of pictures: prepares them, restores them within the memory, corrects their colours."""

    folder: Path | None = None
    """Where it was loaded from."""

    @torch.inference_mode()
    def run(
        self,
        pixels: Tensor,
        settings: RestoreSettings,
        *,
        grey: Sequence[bool] | bool = False,
        keep_branches: bool = False,
        budget_bytes: int | None = None,
    ) -> Result:
        """Restore and enlarge pictures of one size.

        pixels: (B, 3, h, w) in [-1, 1], as read and cut (`gendrpix.image.picture.cut`). The result has
        floor(n * scale + 0.5) pixels a side. grey: whether the pictures, or each of them, are grey: their results have
        no chroma. budget_bytes: memory that may be taken, by default what is free.
        Raises ValueError for settings of another restorer, a result beyond the limits, and where nothing fits.
        """
        settings = self.resolve(settings)
        prepared = self.prepare(pixels, settings.scale_for(pixels.shape[-1], pixels.shape[-2]))
        fitted = restore_within(
            self,
            prepared,
            settings.guidance,
            tile=settings.tile,
            batched=settings.batched,
            keep_branches=keep_branches,
            budget_bytes=budget_bytes,
            **as_offsets(settings),
        )
        restored = uncolored(correct_color(fitted.restored, prepared, settings.color_fix), grey)
        return Result(pixels=restored, settings=settings, branches=fitted.branches, notes=fitted.notes)

    @torch.inference_mode()
    def run_tile(self, prepared: Tensor, settings: RestoreSettings, *, batched: bool, grey: bool = False) -> Tensor:
        """`run` for one tile that is prepared already and fits the memory: (B, 3, H, W) => the same, restored.

        settings: resolved (`resolve`). Colours are corrected within the tile.
        """
        restored, _ = self.restore_guided(prepared, settings.guidance, batched=batched, **as_offsets(settings))
        return uncolored(correct_color(restored, prepared, settings.color_fix), grey)

    def resolve(self, settings: RestoreSettings) -> RestoreSettings:
        """The settings with numbers for all that they leave to the weights and the device.

        Raises ValueError where they ask for another restorer or dtype than this one was loaded as.
        """
        name, dtype = self.restorer.name, dtype_name(self.unet.dtype)
        if settings.restorer != name:
            raise ValueError(f"The settings are for {settings.restorer} and this is {name}; load {settings.restorer}.")
        if settings.dtype not in ("auto", dtype):
            raise ValueError(
                f"The settings ask for {settings.dtype} and this restorer computes in {dtype}; load it in that dtype."
            )
        return settings.resolved(pos_pad=self.pos_pad, neg_pad=self.neg_pad, dtype=dtype)

    def prepare(self, picture: Picture | Tensor, scale: float) -> Tensor:
        """(B, 3, h, w) or a picture => (B, 3, H, W) in [-1, 1] at the output size, on the device and in the dtype."""
        color = picture.color if isinstance(picture, Picture) else picture
        height, width = output_size(color.shape[-2], color.shape[-1], scale)
        check_output_size(height, width)
        if self.device.type == "cuda":  # from pinned memory the copy runs beside what the GPU still computes
            color = color.pin_memory().to(self.device, non_blocking=True)
        return resize(color.to(self.device), height, width).to(self.unet.dtype)


def pick_dtype_for(settings: RestoreSettings, device: torch.device) -> torch.dtype:
    """The dtype to load a restorer in. "auto" is float32 where bfloat16 moves pixels by a level of 255 on average.

    That is so for 16-bit files, and on the CPU for restorers of latents: docs/performance.md has the figures. A
    comparison computes all restorers in the dtype of gendr-pix, so that their times compare.
    """
    of_latents = RESTORER_SPECS[settings.restorer].writes == "latent"
    exact = settings.bits == 16 or (of_latents and device.type == "cpu")
    return pick_dtype("float32" if settings.dtype == "auto" and exact else settings.dtype, device)


def as_offsets(settings: RestoreSettings) -> dict[str, Any]:
    """The arguments of `OneStepNetwork.restore_branches` that resolved settings name."""
    if settings.kind != "padcfg":
        return {"plain_cfg": settings.plain_cfg}
    return {"pos_pad": settings.pos_pad, "neg_pad": settings.neg_pad}


def uncolored(restored: Tensor, grey: Sequence[bool] | bool) -> Tensor:
    """(B, 3, H, W) => the same, without chroma where the picture was grey."""
    flags = [grey] * len(restored) if isinstance(grey, bool) else grey
    if not any(flags):
        return restored
    pairs = zip(restored.split(1), flags, strict=True)
    return torch.cat([without_chroma(one) if flag else one for one, flag in pairs])


def dtype_name(dtype: torch.dtype) -> Dtype:
    """torch.float32 => "float32"."""
    name = str(dtype).removeprefix("torch.")
    return next(known for known in get_args(Dtype) if known == name)


def enlarged_alpha(picture: Picture, result: Tensor) -> Tensor | None:
    """(1, 1, H, W) in [0, 1] at the size of `result` (B, 3, H, W), or None for an opaque picture."""
    height, width = result.shape[-2:]
    return None if picture.alpha is None else resize_alpha(picture.alpha, height, width)

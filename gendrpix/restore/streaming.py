"""From a decoded picture to a PNG on disk, band by band: the result is never held as a whole.

A picture of 12 megapixels enlarged four times has 192 megapixels, 2.3 GB as float32 and several times that on the way
through a restorer. Here it takes the input, one row of tiles, and what the restorer needs for one tile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gendrpix.files import written_beside
from gendrpix.image.picture import Picture
from gendrpix.image.png import PngStream, check_keyword
from gendrpix.image.resize import output_size, resize_rows
from gendrpix.image.write import to_array
from gendrpix.models.tiling import Predictor, restore_bands
from gendrpix.restore.memory import available_bytes, tight_memory
from gendrpix.restore.planner import Plan, PlanError, choose_plan
from gendrpix.restore.restorer import OneStepRestorer
from gendrpix.settings.checks import checked_tile
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import OVERLAP_PX

BUDGET_BYTES = 1_200_000_000
"""Most that streaming plans with, however much is free: larger tiles are hardly faster."""


def restore_to_png(
    restorer: OneStepRestorer,
    picture: Picture,
    path: str | os.PathLike[str],
    settings: RestoreSettings,
    *,
    budget_bytes: int | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Plan:
    """Restore `picture` into a PNG by the largest tiles that fit the memory, and give back the plan.

    picture: as read and cut. settings: those of a stream. Tiles that leave room (`planner.Plan.leaves_room`) go
    before larger ones, and colours are corrected tile by tile. Errors are those of `stream_png`, ValueError for
    settings that do not stream, and PlanError where nothing fits.
    """
    settings = replace(restorer.resolve(settings), stream=True)  # refuses what cannot be streamed
    scale = settings.scale_for(picture.width, picture.height)
    height, width = output_size(picture.height, picture.width, scale)
    budget = available_bytes(restorer.device) if budget_bytes is None else budget_bytes
    plan = plan_stream(restorer, height, width, settings, budget)
    assert plan.tile_px is not None  # a streamed plan always has tiles

    def predict(pixels: Tensor) -> Tensor:
        return restorer.run_tile(pixels, settings, batched=plan.batched, grey=picture.grey)

    with nullcontext() if plan.leaves_room(budget) else tight_memory(restorer.device):
        stream_png(
            picture,
            path,
            predict,
            scale=scale,
            tile_px=plan.tile_px,
            device=restorer.device,
            dtype=restorer.unet.dtype,
            bits=settings.bits,
            overwrite=overwrite,
            metadata=metadata,
            progress=progress,
        )
    return plan


def plan_stream(
    restorer: OneStepRestorer, height: int, width: int, settings: RestoreSettings, budget_bytes: int
) -> Plan:
    """The tiles for a result of height x width pixels: as asked, else those that stay within `BUDGET_BYTES` if any do.

    Raises PlanError where none fits the budget.
    """

    def choose(budget: int) -> Plan:
        how = {"guided": settings.guidance is not None, "batched": settings.batched, "tile": settings.tile}
        return choose_plan(restorer, height, width, streamed=True, budget_bytes=budget, **how)

    if settings.tile == "auto" and budget_bytes > BUDGET_BYTES:
        with suppress(PlanError):
            return choose(BUDGET_BYTES)
    return choose(budget_bytes)


def stream_png(
    picture: Picture,
    path: str | os.PathLike[str],
    predict: Predictor,
    *,
    scale: float,
    tile_px: int,
    overlap_px: int = OVERLAP_PX,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    bits: int = 8,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Enlarge and restore `picture` tile by tile into a PNG, with its alpha, and give back the path.

    predict: pixels (1, 3, h, w) in [-1, 1] on `device` in `dtype` => the same, restored; for a grey picture without
    chroma. progress hears the share that is written, up to 1. Written beside and renamed when whole: an interruption
    leaves nothing.
    Raises PictureError for an existing file and a file that cannot be written, ValueError for a tile that is too small.
    """
    path, size = Path(path), output_size(picture.height, picture.width, scale)
    checked_tile(tile_px)
    for keyword in metadata or {}:
        check_keyword(keyword)
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    num_rows = 0
    with written_beside(path, overwrite=overwrite) as file:
        png = PngStream(file, size[1], size[0], channels=channels, bits=bits, metadata=metadata)
        for band in restored_bands(picture, size, predict, tile_px, overlap_px, device=device, dtype=dtype):
            bottom = num_rows + band.shape[-2]
            alpha = None if picture.alpha is None else alpha_rows(picture.alpha, size, num_rows, bottom)
            png.write(to_array(band, alpha, bits, picture.grey))
            num_rows = bottom
            if progress is not None:
                progress(num_rows / size[0])
        png.close()
    return path


def restored_bands(
    picture: Picture,
    size: tuple[int, int],
    predict: Predictor,
    tile_px: int,
    overlap_px: int = OVERLAP_PX,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """The restored bands from top to bottom, (1, 3, rows, W) on the CPU; the input is resized as it is needed."""

    def read(top: int, bottom: int) -> Tensor:
        return resize_rows(picture.color, size, top, bottom)

    def restore(tile: Tensor) -> Tensor:
        return predict(tile.to(device, dtype)).float().cpu()

    return restore_bands(read, size, restore, tile_px, overlap_px)


def alpha_rows(alpha: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows of `gendrpix.image.resize.resize_alpha(alpha, *size)`, (1, 1, bottom - top, W) in [0, 1]."""
    return (resize_rows(alpha * 2 - 1, size, top, bottom) + 1) / 2

"""Where training samples come from, and in which order: each is addressed by a global sample index.

Everything about sample i (photo, position, size, flips, degradation, noise) follows from (seed, i) alone. So
neither the number of worker processes nor that of training processes nor a resume changes what is trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gendrpix.errors import PictureError
from gendrpix.image.read import is_picture_name, open_picture, read_size
from gendrpix.image.write import to_pil
from training.config import DataConfig
from training.degradation import find_preset, sample_rng
from training.samples import CropSettings, Sample, as_bytes, crop, make_sample
from training.streams import PhotoStream, StreamedCrops, open_stream

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.05
NUM_HELD_OUT = 16
"""Held-out crops on which a run is checked."""
HELD_OUT_SEED = 20260
"""Seed of the held-out crops: fixed, so that runs with different seeds are checked on the same ones."""
GIBIBYTE = 1 << 30
NAMED_AT_MOST = 20
DRAWN_CANDIDATES = 4


# Photos -----------------------------------------------------------------------------------------------------


class PhotoFolder:
    """The photos of one or more folders and of the folders in them, as (3, H, W) uint8.

    paths: the usable photos in order; sizes: their (height, width); skipped: what was left out, file =>
    reason. Photos are decoded when the folder is opened and kept, as long as they fit into memory_bytes
    together (a photo of a megapixel takes 3 MB); the rest is decoded again for every draw. ValueError where
    nothing usable is found.
    """

    def __init__(
        self, *folders: Path, shortest_px: int = 64, memory_bytes: int = 2 * GIBIBYTE, part: str = "all"
    ) -> None:
        self.folders, self.part = folders, part
        self.name = " and ".join(str(folder) for folder in folders)
        found = [(folder, path) for folder in folders for path in _photos_in(folder)]
        self._roots = {path: folder for folder, path in found}
        self.paths: list[Path] = []
        self.sizes: list[tuple[int, int]] = []
        self.skipped: dict[Path, str] = {}
        self._kept: dict[int, Tensor] = {}
        free_bytes = memory_bytes
        for path in _part_of([path for _, path in found], part):
            try:
                height, width = read_size(path)
                if min(height, width) < shortest_px:
                    raise PictureError(f"is {width} x {height}, smaller than {shortest_px} pixels")
                if 3 * height * width <= free_bytes:
                    photo = _decode(path)
                    height, width = photo.shape[-2:]
                    self._kept[len(self.paths)] = photo
                    free_bytes -= photo.numel()
            except (OSError, ValueError) as error:
                self.skipped[path] = str(error)
                continue
            self.paths.append(path)
            self.sizes.append((height, width))
        self._report()
        areas = np.array([height * width for height, width in self.sizes], dtype=np.float64)
        self._cumulated = np.cumsum(areas / areas.sum())

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, number: int) -> Tensor:
        """Photo `number` as (3, H, W) uint8. One that has become unreadable gives way to the next, with a
        warning."""
        for step in range(len(self)):
            at = (number + step) % len(self)
            if at in self._kept:
                return self._kept[at]
            try:
                return _decode(self.paths[at])
            except (OSError, ValueError) as error:
                logger.warning("%s cannot be read any more (%s); the next photo is used", self.paths[at], error)
        raise ValueError(f"No photo of {self.name} can be read any more; restore the folder and resume.")

    def choose(self, share: float) -> int:
        """The photo at `share` (0 to 1) of the folder's total area: a uniform share picks photos by their
        area."""
        return min(int(np.searchsorted(self._cumulated, share, side="right")), len(self) - 1)

    def fingerprint(self) -> list[tuple[str, int]]:
        """The photos' names below their folder, and their sizes in bytes."""
        return [(path.relative_to(self._roots[path]).as_posix(), path.stat().st_size) for path in self.paths]

    def _report(self) -> None:
        if self.skipped:
            named = [f"{path.name} ({reason})" for path, reason in list(self.skipped.items())[:NAMED_AT_MOST]]
            more = len(self.skipped) - len(named)
            logger.warning(
                "%s: %d of %d files skipped: %s%s",
                self.name,
                len(self.skipped),
                len(self.skipped) + len(self.paths),
                "; ".join(named),
                f"; and {more} more" if more else "",
            )
        if not self.paths:
            raise ValueError(
                f"None of the {len(self.skipped)} pictures in {self.name} ({self.part}) can be used; "
                "see the log for each one's reason, or give another folder."
            )
        megapixels = sum(height * width for height, width in self.sizes) / 1e6
        logger.info(
            "%s (%s): %d photos, %.0f megapixels, %d in memory",
            self.name,
            self.part,
            len(self.paths),
            megapixels,
            len(self._kept),
        )


def _photos_in(folder: Path) -> list[Path]:
    if folder == Path():
        raise ValueError("No folder of photos was given; pass --data.folder FOLDER.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; pass the folder of the training photos.")
    found = sorted(path for path in folder.rglob("*") if is_picture_name(path) and path.is_file())
    if not found:
        raise ValueError(f"{folder} holds no pictures; put photos there or give another folder.")
    return found


def _part_of(paths: Sequence[Path], part: str) -> list[Path]:
    """All files, or the training or the held-out ones: HELD_OUT_SHARE of them, at least one.

    Those with the lowest hashes of their names are held out, so that adding photos moves few of the others.
    """
    if part == "all":
        return list(paths)
    if part not in ("train", "held-out"):
        raise ValueError(f'part is {part!r}, expected "all", "train" or "held-out".')
    if len(paths) < 2:
        raise ValueError(f"{paths[0].parent} holds one picture, and one must be held out; add photos.")
    ranked = sorted(paths, key=lambda path: (hashlib.sha256(path.name.encode()).digest(), path))
    held_out = set(ranked[: max(1, round(HELD_OUT_SHARE * len(paths)))])
    return [path for path in paths if (path in held_out) == (part == "held-out")]


def _decode(path: Path) -> Tensor:
    """(3, H, W) uint8, upright sRGB."""
    return as_bytes(open_picture(path).color[0])


# Crops ------------------------------------------------------------------------------------------------------


class IndexedCrops(Dataset[dict[str, Tensor]]):
    """Training samples that are made one by one from their global index.

    Item i is what `Sample.item` gives: "hq", "lq", "small", "negative", "index", and "taught" with a pixel teacher.
    """

    settings: CropSettings
    """How a photo becomes a sample."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.sample(index).item(index)

    def sample(self, index: int) -> Sample:
        """Sample `index`."""
        raise NotImplementedError

    def samples(self, start: int, count: int) -> Iterator[Sample]:
        """Samples start to start + count - 1."""
        return (self.sample(index) for index in range(start, start + count))

    def ensured(self, batches: Iterator[list[int]]) -> Iterator[list[int]]:
        """The same batches of sample indices, each after what its samples need has been computed."""
        return batches

    def fingerprint(self) -> list[tuple[str, int]]:
        """What the samples depend on but for settings and seed."""
        raise NotImplementedError


class CropDataset(IndexedCrops):
    """Samples from folders of photos.

    Without a length it never ends. Photos smaller than the crop are refused, not enlarged. `drawn`: pictures that
    take drawn_share of the samples; at least DRAWN_CANDIDATES places are drawn in them, for much of a page is paper.
    """

    def __init__(
        self,
        photos: PhotoFolder,
        settings: CropSettings,
        *,
        seed: int,
        length: int | None = None,
        drawn: PhotoFolder | None = None,
        drawn_share: float = 0.25,
    ) -> None:
        shortest = min(min(size) for folder in (photos, drawn) if folder is not None for size in folder.sizes)
        if shortest < settings.crop_px:
            raise ValueError(
                f"A photo's shorter side has {shortest} pixels and the crop {settings.crop_px}; open the "
                f"folder with shortest_px={settings.crop_px}, or take smaller crops."
            )
        self.photos, self.settings, self.seed = photos, settings, seed
        self.drawn, self.drawn_share = drawn, drawn_share
        self.length = sys.maxsize if length is None else length

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int) -> Sample:
        """Sample `index`. The degradation is drawn last: presets differ in it alone. IndexError past the
        length."""
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} is not in 0 to {self.length - 1}")
        settings = self.settings
        rng = sample_rng(self.seed, index)
        photos = self.photos
        if self.drawn is not None and rng.random() < self.drawn_share:
            photos = self.drawn
            settings = dataclasses.replace(settings, candidates=max(settings.candidates, DRAWN_CANDIDATES))
        number = photos.choose(rng.random())
        if settings.in_turn:
            number = index % len(photos)
        hq = crop(photos.pixels(number), settings, rng)
        return make_sample(hq, settings, rng, photo=photos.paths[number])

    def fingerprint(self) -> list[tuple[str, int]]:
        """What the samples depend on but for settings and seed: the photos' names and sizes in bytes.

        Those of drawn pictures begin with "drawn:".
        """
        drawn = self.drawn.fingerprint() if self.drawn is not None else []
        return [*self.photos.fingerprint(), *((f"drawn:{name}", size) for name, size in drawn)]


Crops = IndexedCrops | PhotoStream
"""Training samples of a folder, of a stream, or of a store with a pixel teacher's pictures."""


def open_crops(config: DataConfig, seed: int) -> tuple[Crops, CropDataset]:
    """Training crops, of the folder or of the stream, and crops of the held-out photos."""
    return open_training_crops(config, seed), open_held_out_crops(config)


def open_training_crops(config: DataConfig, seed: int, crop_px: int = 0) -> CropDataset | PhotoStream:
    """Training crops, of the folder without its held-out photos, or of the stream.

    crop_px: for crops that a pixel teacher sees, their side in place of the settings'; they are never negative.
    """
    if crop_px:
        config = dataclasses.replace(config, crop_px=crop_px, negative_probability=0.0)
    settings = crop_settings(config)
    if config.stream:
        stream = open_stream(config.stream, config.stream_column)
        return PhotoStream(address=config.stream, photos=stream, settings=settings, seed=seed)
    photos = PhotoFolder(*config.folders, shortest_px=config.crop_px, part="train")
    drawn = None if config.drawn is None else PhotoFolder(config.drawn, shortest_px=config.crop_px)
    return CropDataset(photos, settings, seed=seed, drawn=drawn, drawn_share=config.drawn_share)


def open_held_out_crops(config: DataConfig) -> CropDataset:
    """Crops of the held-out photos; with a stream, of all photos of the folder.

    They are taken in turn, unflipped and never negative, and are the same for all seeds.
    """
    if config.stream and config.folder == Path():
        raise ValueError("A stream leaves no photos to check on; pass --data.folder with a few that it does not hold.")
    check = dataclasses.replace(
        crop_settings(config), negative_probability=0.0, flips=False, in_turn=True, candidates=4
    )
    photos = PhotoFolder(*config.folders, shortest_px=config.crop_px, part="all" if config.stream else "held-out")
    return CropDataset(photos, check, seed=HELD_OUT_SEED)


def crop_settings(config: DataConfig) -> CropSettings:
    """How a photo becomes a training sample."""
    return CropSettings(
        crop_px=config.crop_px,
        scale=config.scale,
        degradation=None if config.degradation == "none" else find_preset(config.degradation),
        negative_probability=config.negative_probability,
        zoom=config.zoom,
        candidates=config.candidates,
        sharpen=config.sharpen_target,
    )


# Order ------------------------------------------------------------------------------------------------------


def step_sampler(
    start_step: int, steps: int, batch: int, process_index: int = 0, num_processes: int = 1
) -> Iterator[list[int]]:
    """The sample indices of this process's batch for every step from start_step to steps - 1.

    In step s process p of N sees `s N batch + p batch + (0 ... batch - 1)`: together what one process with
    the batch N times as large sees. A resume starts at its step and sees what it would have seen.
    """
    if batch < 1 or num_processes < 1 or not 0 <= process_index < num_processes or start_step < 0:
        raise ValueError(
            f"start_step {start_step}, batch {batch}, process {process_index} of {num_processes}: expected a "
            "start of at least 0, a batch of at least 1 and a process index below the number of processes."
        )
    firsts = ((step * num_processes + process_index) * batch for step in range(start_step, steps))
    return (list(range(first, first + batch)) for first in firsts)


def open_loader(
    crops: Dataset[dict[str, Tensor]] | PhotoStream,
    batch: int,
    steps: int,
    *,
    start_step: int = 0,
    process_index: int = 0,
    num_processes: int = 1,
    num_workers: int = 0,
    pinned: bool = False,
) -> DataLoader[dict[str, Tensor]]:
    """This process's batches of steps start_step to steps - 1, in the order of `step_sampler`."""
    how: dict[str, Any] = {
        "num_workers": num_workers,
        "prefetch_factor": 4 if num_workers else None,
        "pin_memory": pinned,
        "multiprocessing_context": "fork" if num_workers and os.name == "posix" else None,
    }
    place: dict[str, int] = {"process_index": process_index, "num_processes": num_processes}
    if isinstance(crops, PhotoStream):
        settings = {"batch": batch, "steps": steps, "start_step": start_step, **place}
        streamed = StreamedCrops(crops.photos, crops.settings, seed=crops.seed, **settings)
        return DataLoader(streamed, batch_size=batch, **how)
    sampler = step_sampler(start_step, steps, batch, **place)
    if isinstance(crops, IndexedCrops):
        sampler = crops.ensured(sampler)
    return DataLoader(crops, batch_sampler=sampler, **how)


def sample_batches(
    crops: Crops, count: int, device: torch.device, *, start: int = 0, batch: int = 8
) -> Iterator[dict[str, Tensor]]:
    """`count` samples from `start` on, collated and moved: for what looks at data before and after training."""
    samples = crops.samples(start, count)
    for first in range(start, start + count, batch):
        chosen = itertools.islice(samples, batch)
        items = [sample.item(index) for index, sample in enumerate(chosen, start=first)]
        yield {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}


# To look at -------------------------------------------------------------------------------------------------


def contact_sheet(dataset: Crops, count: int, start: int = 0) -> Image.Image:
    """Rows of degraded picture (its pixels enlarged), model input x and target, each with what was done to
    it."""
    side, gap, text_px = dataset.settings.crop_px, 4, 28
    sheet = Image.new("RGB", (3 * side + 4 * gap, count * (side + gap + text_px) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for row, sample in enumerate(dataset.samples(start, count)):
        top = gap + row * (side + gap + text_px)
        done = sample.plan.describe() if sample.plan else "clean"
        caption = textwrap.wrap(f"{'negative: ' if sample.negative else ''}{done}", sheet.width // 6, max_lines=2)
        pen.multiline_text((gap, top), "\n".join(caption), fill="black", spacing=1)
        for column, tensor in enumerate((sample.small, sample.lq, sample.hq)):
            picture = to_pil(tensor)
            if picture.width != side:
                picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (gap + column * (side + gap), top + text_px))
    return sheet

"""Where training samples come from, and in which order: each is addressed by a global sample index.

Everything about sample i (photo, position, size, flips, degradation, noise) follows from (seed, i) alone. So
neither the number of worker processes nor that of training processes nor a resume changes what is trained on.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from training.config import DataConfig
from training.data.degradation import sample_rng
from training.data.degradation_presets import find_preset
from training.data.photos import PhotoFolder
from training.data.sample import CropSettings, Sample, crop, make_sample
from training.data.stream import PhotoStream, open_stream

NUM_HELD_OUT = 16
"""Held-out crops on which a run is checked."""
HELD_OUT_SEED = 20260
"""Seed of the held-out crops: fixed, so that runs with different seeds are checked on the same ones."""
DRAWN_CANDIDATES = 4


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

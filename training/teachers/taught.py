"""Samples with a pixel teacher's pictures, which are computed once and kept on disk in blocks.

Crop j of `count` follows from (taught.seed, j): a square of a photo, its degraded twin, and the teacher's picture of
that. Sample i of a run is a random part of one crop, flipped, by the draws of (run's seed, i). So one crop serves many
samples, several runs share the crops, and neither a resume nor the number of processes changes what is trained on.

A block that is missing is computed before it is needed: by the run itself, or by a second process
(`python -m training targets`) that works ahead of it. A lock on each block keeps the two from the same work.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gendrpix.image.resize import resize
from training.config import DataConfig, TaughtConfig
from training.data.crops import IndexedCrops, open_training_crops
from training.data.degradation import sample_rng
from training.data.sample import HALF_STEPS, CropSettings, Sample, as_bytes, flipped
from training.teachers.pixel_teacher import PixelTeacher, open_pixel_teacher

logger = logging.getLogger(__name__)

BLOCK = 32
"""Crops in a file."""
WINDOW = 8
"""Blocks among whose crops the samples are shuffled."""


class CropSource(Protocol):
    """Where whole crops come from: `CropDataset` or `PhotoStream`."""

    def samples(self, start: int, count: int) -> Iterator[Sample]:
        """Samples start to start + count - 1."""

    def fingerprint(self) -> Sequence[object]:
        """What the samples depend on but for settings and seed."""


class Store(Protocol):
    """Crops by number, in blocks of `BLOCK`."""

    name: str
    """Tells it apart from other stores."""
    count: int
    """Crops in it."""

    def ensure(self, block: int) -> bool:
        """Make sure that a block can be read. True where it had to be computed."""

    def crop(self, number: int) -> dict[str, Tensor]:
        """Crop `number`: "hq", "taught" (3, crop, crop) and "small" (3, crop / scale, crop / scale), uint8."""


class FinishedStore:
    """The whole blocks that a folder holds."""

    def __init__(self, folder: Path) -> None:
        """Look at the folder. Raises ValueError where it holds no block."""
        self.folder, self.name = folder, folder.name
        self._open: dict[int, Any] = {}
        self.count = BLOCK * len(list(folder.glob("block-*.safetensors")))
        if not self.count or not self.file(self.count // BLOCK - 1).is_file():
            raise ValueError(f"{folder} holds no store; pass a folder that `python -m training targets` has filled.")

    def file(self, block: int) -> Path:
        """Where a block is kept, complete."""
        return self.folder / f"block-{block:06d}.safetensors"

    def ensure(self, block: int) -> bool:
        """See `Store`."""
        return False

    def crop(self, number: int) -> dict[str, Tensor]:
        """See `Store`."""
        block, row = divmod(number, BLOCK)
        if block not in self._open:
            if len(self._open) > 4 * WINDOW:
                self._open.clear()
            self._open[block] = safe_open(self.file(block), framework="pt")
        return {name: self._open[block].get_slice(name)[row] for name in ("hq", "small", "taught")}


class TaughtStore(FinishedStore):
    """Blocks of crops with the teacher's pictures, as uint8 in safetensors files, computed when they are needed.

    sources: the crops, of `TaughtConfig.crop_px` and never negative.
    """

    def __init__(self, folder: Path, count: int, sources: CropSource, teacher: PixelTeacher) -> None:
        """Open or make the folder. Raises ValueError where it cannot be written."""
        self.folder, self.name, self.count = folder, folder.name, count
        self.sources, self.teacher = sources, teacher
        self._open = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"The folder of targets {folder} cannot be written ({error}); pass another.") from error

    @property
    def num_blocks(self) -> int:
        """Blocks of all crops; the last may be shorter."""
        return -(-self.count // BLOCK)

    def ensure(self, block: int) -> bool:
        """Compute a block unless it is on disk; waits where another process computes it."""
        if self.file(block).is_file():
            return False
        with FileLock(self.folder / f".block-{block:06d}.lock"):
            if self.file(block).is_file():
                return False
            self._compute(block)
            return True

    def _compute(self, block: int) -> None:
        logger.info("taught: computing block %d of %d in %s", block + 1, self.num_blocks, self.folder)
        first = block * BLOCK
        rows: dict[str, list[Tensor]] = {"hq": [], "small": [], "taught": []}
        for sample in self.sources.samples(first, min(BLOCK, self.count - first)):
            taught = self.teacher(sample.small[None], sample.lq[None])[0].float().cpu()
            for name, picture in (("hq", sample.hq), ("small", sample.small), ("taught", taught)):
                rows[name].append(as_bytes(picture.clone()))
        final = self.file(block)
        partial = final.with_name(f".{final.name}.partial")
        try:
            save_file({name: torch.stack(values) for name, values in rows.items()}, partial)
            partial.rename(final)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise ValueError(f"The targets in {self.folder} cannot be written ({error}); free some space.") from error


class JoinedStore:
    """Several stores as one: their whole blocks, each store's spread evenly over all."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self.name = "+".join(store.name for store in stores)
        counts = [store.count // BLOCK for store in stores]
        places = [((block + 0.5) / count, one, block) for one, count in enumerate(counts) for block in range(count)]
        self._places = [(one, block) for _, one, block in sorted(places)]
        self.count = len(self._places) * BLOCK

    def ensure(self, block: int) -> bool:
        """See `Store`."""
        one, own = self._places[block]
        return self.stores[one].ensure(own)

    def crop(self, number: int) -> dict[str, Tensor]:
        """See `Store`."""
        block, row = divmod(number, BLOCK)
        one, own = self._places[block]
        return self.stores[one].crop(own * BLOCK + row)


class TaughtCrops(IndexedCrops):
    """Samples of a store: parts of a store's crops, with the teacher's picture in "taught".

    settings: `crop_px` is the samples' side, at most that of the store's crops.
    """

    def __init__(self, store: Store, settings: CropSettings, uses: int, seed: int) -> None:
        self.store, self.settings, self.uses, self.seed = store, settings, uses, seed

    def __len__(self) -> int:
        return 2**62

    def number(self, index: int) -> int:
        """The crop of sample `index`.

        The samples run through windows of crops; within a window each crop is used `uses` times, in an order drawn
        from (seed, round).
        """
        window = min(WINDOW * BLOCK, self.store.count)
        windows = self.store.count // window  # crops that fill no window are left out
        turn, place = divmod(index, window * self.uses)
        order = np.random.default_rng((self.seed, turn, 6)).permutation(window * self.uses)
        return turn % windows * window + int(order[place]) % window

    def sample(self, index: int) -> Sample:
        """Sample `index`; its block must be on disk."""
        settings, rng = self.settings, sample_rng(self.seed, index)
        stored = self.store.crop(self.number(index))
        negative = bool(rng.random() < settings.negative_probability)
        side, scale = settings.crop_px, settings.scale
        steps = (stored["hq"].shape[-1] - side) // scale + 1
        top, left = (int(start) for start in rng.integers(steps, size=2))
        flips = (rng.random(3) < 0.5).tolist()

        def part(name: str, divisor: int) -> Tensor:
            edge = side // divisor
            y, x = top * scale // divisor, left * scale // divisor
            return stored[name][:, y : y + edge, x : x + edge].float() / HALF_STEPS - 1

        whole = stored["small"][None].float() / HALF_STEPS - 1
        y, x = top * scale, left * scale
        lq = resize(whole, *stored["hq"].shape[-2:])[0, :, y : y + side, x : x + side]
        pictures = (part("hq", 1), lq, part("small", scale), part("taught", 1))
        hq, lq, small, taught = (flipped(picture, flips) for picture in pictures)
        return Sample(hq=hq, lq=lq, small=small, taught=taught, negative=negative, photo=Path(), plan=None)

    def samples(self, start: int, count: int) -> Iterator[Sample]:
        """Samples start to start + count - 1; computes the blocks that are missing."""
        for index in range(start, start + count):
            self.store.ensure(self.number(index) // BLOCK)
            yield self.sample(index)

    def ensured(self, batches: Iterator[list[int]]) -> Iterator[list[int]]:
        """The same batches of sample indices, each after the blocks that it needs have been computed."""
        ready: set[int] = set()
        for batch in batches:
            for block in sorted({self.number(index) // BLOCK for index in batch} - ready):
                self.store.ensure(block)
                ready.add(block)
            yield batch

    def fingerprint(self) -> list[tuple[str, int]]:
        """What the samples depend on but for settings and seed."""
        return [(self.store.name, self.store.count), ("uses", self.uses)]


def store_key(config: TaughtConfig, data: DataConfig, sources: CropSource, teacher: PixelTeacher) -> str:
    """The name of a store: a digest of all that its crops depend on but their numbers."""
    told = data.sample_settings()
    for name in ("crop_px", "negative_probability"):  # of the samples, not of the store's crops
        del told[name]
    document = {
        "teacher": teacher.digest,
        "data": told,
        "photos": sources.fingerprint(),
        "crop_px": config.crop_px,
        "seed": config.seed,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:16]


def open_store(config: TaughtConfig, data: DataConfig, run: Path, device: torch.device) -> TaughtStore:
    """The store of a pixel teacher's pictures, within the settings' folder or else the run's."""
    if config.crop_px < data.crop_px:
        raise ValueError(
            f"taught.crop_px is {config.crop_px}, smaller than data.crop_px, {data.crop_px}; pass a larger one."
        )
    teacher = open_pixel_teacher(config.teacher, device)
    sources = open_training_crops(data, config.seed, crop_px=config.crop_px)
    folder = (config.folder or run / "taught") / store_key(config, data, sources, teacher)
    logger.info("The pixel teacher's pictures are kept in %s", folder)
    return TaughtStore(folder, config.count, sources, teacher)

"""Samples from photos that are streamed: tar shards (webdataset) or a data set of the hub (`datasets`).

Both packages are loaded when a stream is opened and belong to the extra `training`.

Photo n of the stream, counted on through the epochs, makes sample n, by the draws of (seed, n) and nothing
else. Every worker reads the whole stream and decodes its own share only: what is trained on depends neither
on the number of workers nor on that of processes, and the price is bandwidth. The order is the stream's own:
shuffle when writing it.
"""

from __future__ import annotations

import importlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from gendrpix.errors import PictureError
from gendrpix.image.formats import SUFFIXES
from gendrpix.image.read import open_picture
from training.data.degradation import sample_rng
from training.data.sample import CropSettings, Sample, as_bytes, crop, make_sample

logger = logging.getLogger(__name__)

ReadPhoto = Callable[[], bytes]
"""Gives the encoded photo; called only where the photo is needed."""
OpenStream = Callable[[], Iterable[tuple[str, ReadPhoto]]]
"""Starts an epoch: pairs of a name and its photo, always in the same order."""
HUB = "hub:"
"""What an address of `datasets` begins with; any other is that of tar shards."""


def open_stream(address: str, column: str) -> OpenStream:
    """The stream of an address: "hub:NAME" for `datasets`, else tar shards. ValueError where its package is missing."""
    return hub_photos(address.removeprefix(HUB), column=column) if address.startswith(HUB) else tar_photos(address)


def tar_photos(urls: str) -> OpenStream:
    """Photos of tar shards: a path or URL, with braces for many ("photos-{000..127}.tar").

    The first picture of each webdataset sample counts. ValueError where webdataset is missing.
    """
    webdataset = _needed("webdataset")

    def photos() -> Iterator[tuple[str, ReadPhoto]]:
        shards = webdataset.WebDataset(
            urls, shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False
        )
        for record in shards:
            for field, value in record.items():
                if f".{field.rsplit('.', 1)[-1].lower()}" in SUFFIXES:
                    yield str(record["__key__"]), partial(bytes, value)
                    break

    return photos


def hub_photos(name: str, *, split: str = "train", column: str = "image", **options: Any) -> OpenStream:
    """Photos of a data set of the hub, or of a local one that `datasets.load_dataset` reads, streamed.

    column: the one that holds the pictures; options go to `load_dataset`. ValueError where `datasets` is
    missing or the column is not there.
    """
    datasets = _needed("datasets")

    def photos() -> Iterator[tuple[str, ReadPhoto]]:
        table = datasets.load_dataset(name, split=split, streaming=True, **options)
        if table.column_names is not None and column not in table.column_names:
            raise ValueError(f"{name} has no column {column!r}; it has {', '.join(table.column_names)}.")
        table = table.cast_column(column, datasets.Image(decode=False))
        # in batches of one: plain iteration would deal the shards out to the workers
        for number, records in enumerate(table.iter(batch_size=1)):
            yield f"{name}[{number}]", partial(_hub_bytes, records[column][0], f"{name}[{number}].{column}")

    return photos


def _hub_bytes(value: Any, name: str) -> bytes:
    """The bytes of an undecoded `datasets.Image`, which holds them or says where they are."""
    if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
        raise ValueError(f"{name} holds no picture; name the column that does.")
    if value.get("bytes"):
        return bytes(value["bytes"])
    with _needed("fsspec").open(value["path"], "rb") as file:
        return bytes(file.read())


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"Streaming needs the package {package}: pip install {package}.") from error


@dataclass(frozen=True, kw_only=True)
class PhotoStream:
    """Training samples of a stream: what a `CropDataset` is for a folder."""

    address: str
    photos: OpenStream
    settings: CropSettings
    seed: int

    def samples(self, start: int, count: int) -> Iterator[Sample]:
        """Samples start to start + count - 1. Those before are read over, not decoded."""
        how = {"batch": 1, "start_step": start, "steps": start + count}
        return (sample for _, sample in StreamedCrops(self.photos, self.settings, seed=self.seed, **how).samples())

    def fingerprint(self) -> str:
        """What the samples depend on but for settings and seed: the address; its content is taken on trust."""
        return self.address


class StreamedCrops(IterableDataset[dict[str, Tensor]]):
    """The streamed counterpart of `CropDataset`, with the same items.

    For a DataLoader with the same batch_size and no sampler: worker w of W takes every W-th of this process's
    batches, so that the loader hands them out in the order of the global sample index. Unreadable and too
    small photos are named in the log and their samples are made of the photo that follows. It ends after
    `steps` batches; the stream starts again whenever it is through. ValueError for a stream without one
    usable photo.
    """

    def __init__(
        self,
        photos: OpenStream,
        settings: CropSettings,
        *,
        seed: int,
        batch: int,
        steps: int,
        start_step: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        if batch < 1 or not 0 <= process_index < num_processes or start_step < 0:
            raise ValueError(
                f"batch is {batch}, start_step {start_step}, process {process_index} of {num_processes}; "
                "give a batch of at least 1, a start of at least 0 and a process below their number."
            )
        self.photos, self.settings, self.seed = photos, settings, seed
        self.batch, self.steps, self.start_step = batch, steps, start_step
        self.process_index, self.num_processes = process_index, num_processes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (sample.item(index) for index, sample in self.samples())

    def samples(self) -> Iterator[tuple[int, Sample]]:
        """(global sample index, sample) of this process, and of this worker's share within a loader's worker."""
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        waiting: list[int] = []  # samples whose own photo could not be used
        waiting_since = 0  # epoch
        for index, (epoch, name, read) in enumerate(self._endless()):
            step, place = divmod(index // self.batch, self.num_processes)
            if step >= self.steps and not waiting:
                return
            due = self.start_step <= step < self.steps and place == self.process_index
            if due and (step - self.start_step) % count == number:
                waiting_since = waiting_since if waiting else epoch
                waiting.append(index)
            if not waiting:
                continue
            if epoch > waiting_since + 1:
                raise ValueError("The stream holds no photo that can be used; see the log for the reasons.")
            pixels = self._usable(name, read)
            if pixels is not None:
                yield from ((at, self._sample(pixels, at)) for at in waiting)
                waiting = []

    def _endless(self) -> Iterator[tuple[int, str, ReadPhoto]]:
        for epoch in itertools.count():
            empty = True
            for name, read in self.photos():
                empty = False
                yield epoch, name, read
            if empty:
                raise ValueError("The stream holds no pictures; check its address.")

    def _usable(self, name: str, read: ReadPhoto) -> Tensor | None:
        data = read()  # a failing connection ends the run, which can be resumed
        try:
            pixels = as_bytes(open_picture(data).color[0])
        except PictureError as error:
            logger.warning("%s skipped: %s", name, error)
            return None
        height, width = pixels.shape[-2:]
        if min(height, width) < self.settings.crop_px:
            logger.warning("%s skipped: %d x %d is smaller than the crop", name, width, height)
            return None
        return pixels

    def _sample(self, photo: Tensor, index: int) -> Sample:
        rng = sample_rng(self.seed, index)
        return make_sample(crop(photo, self.settings, rng), self.settings, rng)

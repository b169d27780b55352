"""The room that a job's results will take on the disk, told before the first is made."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gendrpix.errors import PictureError
from gendrpix.image.picture import Limits
from gendrpix.image.read import read_size
from gendrpix.image.resize import output_size
from gendrpix.jobs.tasks import Task
from gendrpix.settings.restoration import RestoreSettings

SAMPLE = 100
"""Pictures whose headers are read: the others are taken to be alike."""
USUAL, LEAST = 1.6, 0.3
"""Bytes that a result's pixel takes at 8 bits a channel: of photos on average, and of very smooth ones."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a job's results will take, and what is free."""

    count: int
    pixels: float
    bits: int
    free_bytes: int

    @property
    def usual_bytes(self) -> float:
        """What is expected."""
        return self.pixels * USUAL * (3 if self.bits == 16 else 1)

    def check(self) -> str:
        """What a user should know before the job, empty where there is room. ValueError where surely none is."""
        said = f"the {self.count:,} results may take {words(self.usual_bytes)} and {words(self.free_bytes)} are free"
        if self.pixels * LEAST > self.free_bytes:
            raise ValueError(f"{said[0].upper()}{said[1:]}; choose another folder with -o, or a part with --shard.")
        return f"{said}: the disk may become full." if self.usual_bytes > self.free_bytes else ""


def find_room(tasks: Sequence[Task], settings: RestoreSettings, folder: Path, limits: Limits) -> Room:
    """The room for the results that are not there yet, judged by some of the pictures."""
    todo = [task for task in tasks if not os.path.lexists(task.target)]
    step = max(1, len(todo) // SAMPLE)
    found = []
    for task in todo[::step]:
        with contextlib.suppress(ValueError, OSError):  # that one will fail, and say so, in its turn
            height, width = read_size(task.source, limits) if settings.crop is None else settings.crop[:1:-1]
            tall, wide = output_size(height, width, settings.scale_for(width, height))
            found.append(tall * wide)
    mean = sum(found) / len(found) if found else 0.0
    return Room(count=len(todo), pixels=mean * len(todo), bits=settings.bits, free_bytes=free_bytes(folder))


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder that is there or will be."""
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise PictureError(f"The folder {place} cannot be read ({error.strerror}); choose another with -o.") from error


def words(num_bytes: float) -> str:
    """Bytes for a reader."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"

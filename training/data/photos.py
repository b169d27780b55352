"""Folders of photos, and which of them are held out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gendrpix.errors import PictureError
from gendrpix.image.read import is_picture_name, open_picture, read_size
from training.data.sample import as_bytes

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.05
GIBIBYTE = 1 << 30
NAMED_AT_MOST = 20


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

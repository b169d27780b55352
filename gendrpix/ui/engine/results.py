"""One run's pictures as the page shows them: which there are, which two are beside each other."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from gendrpix.comparison.comparison import Record
    from gendrpix.image.picture import Box, Picture
    from gendrpix.report.tables import Table
    from gendrpix.ui.engine.request import Request


class Results:
    """One run: its figures and its PNG files by label, in a folder that is removed together with this object.

    It lives in the visitor's session; the run adds to it while the visitor may already choose what to look at.
    """

    def __init__(
        self,
        expected: Sequence[str],
        source: Path,
        photo_name: str = "photo.png",
        weights: str = "mini",
        *,
        request: Request | None = None,
        box: Box | None = None,
    ) -> None:
        """`expected`: labels of the restorers to come, in the order of the run; the photo's file and its own name.

        request: what was asked for. box: the part of the photo that was restored; None for the whole.
        """
        self.expected = tuple(expected)
        self.source = source
        self.photo_name = photo_name
        self.weights = weights
        self.records: list[Record] = []
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.request = request
        self.box = box
        self.bits = 8 if request is None else request.bits
        self.files: dict[str, Path] = {}
        self.downloads: dict[str, Path] = {}
        self._left = ""
        self._right = ""
        self._chosen = False

    @property
    def labels(self) -> list[str]:
        """What can be looked at so far, in the order of the run."""
        return list(self.files)

    @property
    def pair(self) -> tuple[str, str]:
        """Labels of the (left, right) picture of the slider."""
        return self._left, self._right

    @property
    def pair_files(self) -> tuple[str, str]:
        """Paths of the two pictures of the slider."""
        return str(self.files[self._left]), str(self.files[self._right])

    @property
    def right_record(self) -> Record:
        """The figures of the picture on the right."""
        return next(record for record in self.records if record.label == self._right)

    def open_source(self) -> Picture:
        """What was restored: the photo, or its part."""
        from gendrpix.image.picture import cut
        from gendrpix.image.read import open_picture

        picture = open_picture(self.source)
        return picture if self.box is None else cut(picture, self.box)

    def add(self, record: Record, path: Path, download: Path | None = None) -> None:
        """Take in a finished picture. The first one, the input, is shown on the left, the newest on the right.

        Once the visitor has chosen a pair, that one stays. download: the file to save, where it is another.
        """
        from gendrpix.comparison.comparison import relative_to_gendr

        self.records = relative_to_gendr([*self.records, record])
        self.files[record.label] = path
        self.downloads[record.label] = download or path
        self._left = self._left or record.label
        if not self._chosen:
            self._right = record.label

    def choose(self, left: str, right: str) -> None:
        """The visitor's own pair. Raises ValueError for a label that this run does not have."""
        unknown = [label for label in (left, right) if label not in self.files]
        if unknown:
            raise ValueError(f"There is no result {unknown[0]!r} yet; choose one of {', '.join(self.files)}.")
        self._left, self._right, self._chosen = left, right, True


def save_result(image: Image, folder: Path, stem: str, name: str, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a result as PNG, named after the photo and the restorer."""
    from gendrpix.image.write import save_png

    return save_png(image, folder / file_name(stem, name), metadata=metadata)


def save_16_bits(
    record: Record, source: Picture, folder: Path, stem: str, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a fresh record as PNG with 16 bits a channel, with the alpha of what it was restored from."""
    from gendrpix.image.picture import Picture
    from gendrpix.image.write import save_png
    from gendrpix.restore.pipelines import enlarged_alpha

    picture = Picture(color=record.pixels, alpha=enlarged_alpha(source, record.pixels), grey=source.grey)
    return save_png(picture, folder / file_name(stem, f"{record.name}_16bit"), metadata=metadata, bits=16)


def file_name(stem: str, name: str, suffix: str = ".png") -> str:
    """A file's name of a photo's name and what it shows; other characters than letters and digits go."""
    plain, shown = (re.sub(r"[^\w.-]+", "_", text)[:80] for text in (stem, name.replace("*", "-star")))
    return f"{plain or 'photo'}_{shown}{suffix}"


def scorecard(expected: Sequence[str], records: Sequence[Record], *, stopped: bool = False) -> Table:
    """The core's table of what is ready, the input first, with a line for each expected restorer that is not."""
    from gendrpix.comparison.report import to_table

    table = to_table(records)
    blanks = ("",) * (len(table.header) - 2)
    states = ("not run",) * len(expected) if stopped else ("running …", *("waiting",) * len(expected))
    pending = zip(expected[len(records) - 1 :], states, strict=False)
    return replace(table, rows=table.rows + tuple((label, state, *blanks) for label, state in pending))


def figures_alone(record: Record) -> Record:
    """The record without its pictures, which are in files: a session keeps it long after the run."""
    image = record.image.crop((0, 0, 1, 1))
    return replace(record, image=image, pixels=record.pixels.new_empty(1, 3, 0, 0), branches=None)

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

from gendrpix.ui.engine.late import core

if TYPE_CHECKING:
    from PIL.Image import Image

    from gendrpix.comparison.comparison import Measurement
    from gendrpix.image.picture import Picture
    from gendrpix.report.tables import Table
    from gendrpix.restore.restorer import Result
    from gendrpix.ui.engine.request import Job, Request


class Results:
    """One run: its figures and its PNG files by label, in a folder that is removed together with this object.

    It lives in the visitor's session; the run adds to it while the visitor may already choose what to look at.
    """

    def __init__(self, job: Job, request: Request, weights: str = "mini") -> None:
        """`weights`: their name, for the command that makes a result again."""
        self.expected = tuple(job.labels)
        """Labels of the restorers to come, in the order of the run."""
        self.request = request
        self.crop = job.settings.crop
        """The part of the photo that was restored; None for the whole."""
        self.photo_name = request.photo_name
        self.weights = weights
        self.measurements: list[Measurement] = []
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
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
    def right(self) -> Measurement:
        """The figures of the picture on the right."""
        return next(one for one in self.measurements if one.label == self._right)

    def open_source(self) -> Picture:
        """What was restored: the photo, or its part."""
        picture = core.open_picture(self.request.photo)
        return picture if self.crop is None else core.cut(picture, self.crop)

    def add(self, one: Measurement, path: Path, download: Path | None = None) -> None:
        """Take in a finished picture. The first one, the input, is shown on the left, the newest on the right.

        Once the visitor has chosen a pair, that one stays. download: the file to save, where it is another.
        """
        self.measurements = core.relative_to_gendr([*self.measurements, one])
        self.files[one.label] = path
        self.downloads[one.label] = download or path
        self._left = self._left or one.label
        if not self._chosen:
            self._right = one.label

    def choose(self, left: str, right: str) -> None:
        """The visitor's own pair. Raises ValueError for a label that this run does not have."""
        unknown = [label for label in (left, right) if label not in self.files]
        if unknown:
            raise ValueError(f"There is no result {unknown[0]!r} yet; choose one of {', '.join(self.files)}.")
        self._left, self._right, self._chosen = left, right, True


def save_result(image: Image, folder: Path, stem: str, name: str, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a result as PNG, named after the photo and the restorer."""
    return core.save_png(image, folder / file_name(stem, name), metadata=metadata)


def save_16_bits(
    result: Result, source: Picture, folder: Path, stem: str, name: str, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a fresh result as PNG with 16 bits a channel, with the alpha of what it was restored from."""
    alpha = core.enlarged_alpha(source, result.pixels)
    picture = core.Picture(color=result.pixels, alpha=alpha, grey=source.grey)
    return core.save_png(picture, folder / file_name(stem, f"{name}_16bit"), metadata=metadata, bits=16)


def file_name(stem: str, name: str, suffix: str = ".png") -> str:
    """A file's name of a photo's name and what it shows; other characters than letters and digits go."""
    plain, shown = (re.sub(r"[^\w.-]+", "_", text)[:80] for text in (stem, name.replace("*", "-star")))
    return f"{plain or 'photo'}_{shown}{suffix}"


def scorecard(expected: Sequence[str], measurements: Sequence[Measurement], *, stopped: bool = False) -> Table:
    """The core's table of what is ready, the input first, with a line for each expected restorer that is not."""
    table = core.to_table(measurements)
    blanks = ("",) * (len(table.header) - 2)
    states = ("not run",) * len(expected) if stopped else ("running …", *("waiting",) * len(expected))
    pending = zip(expected[len(measurements) - 1 :], states, strict=False)
    return replace(table, rows=table.rows + tuple((label, state, *blanks) for label, state in pending))

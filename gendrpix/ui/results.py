"""One run's pictures as the page shows them: which there are, which two are beside each other."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from gendrpix.compare import Record


class Results:
    """One run: its figures and its PNG files by label, in a folder that is removed together with this object.

    It lives in the visitor's session; the run adds to it while the visitor may already choose what to look at.
    """

    def __init__(
        self, expected: Sequence[str], source: Path, photo_name: str = "photo.png", weights: str = "mini"
    ) -> None:
        """`expected`: labels of the restorers to come, in the order of the run; the photo's file and its own name."""
        self.expected = tuple(expected)
        self.source = source
        self.photo_name = photo_name
        self.weights = weights
        self.records: list[Record] = []
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.files: dict[str, Path] = {}
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

    def add(self, record: Record, path: Path) -> None:
        """Take in a finished picture. The first one, the input, is shown on the left, the newest on the right.

        Once the visitor has chosen a pair, that one stays.
        """
        self.records.append(record)
        self.files[record.label] = path
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
    """Write a result as PNG, named after the photo and the restorer; other characters than letters and digits go."""
    from gendrpix.images import save_png

    plain = re.sub(r"[^\w.-]+", "_", stem)[:80] or "photo"
    return save_png(image, folder / f"{plain}_{name.replace('*', '-star')}.png", metadata=metadata)

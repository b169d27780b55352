"""One run's pictures as the page shows them: which there are, which two are beside each other."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

INPUT = "Input (bicubic)"
"""Label of the picture every restorer starts from: the photo, resized to the output size."""


class Results:
    """The PNG files of one run, by label, in a folder that is removed together with this object.

    It lives in the visitor's session; the run adds to it while the visitor may already choose what to look at.
    """

    def __init__(self, stem: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.stem = stem
        self.files: dict[str, Path] = {}
        self.rows: list[list[str]] = []
        self._left = INPUT
        self._right = INPUT
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

    def path_for(self, name: str) -> Path:
        """Where to save the result of that restorer; the file keeps the photo's name."""
        return self.folder / f"{self.stem}_{name.replace('*', '-star')}.png"

    def add(self, label: str, path: Path) -> None:
        """Take in a finished picture; it is shown on the right unless the visitor has chosen a pair."""
        self.files[label] = path
        if not self._chosen:
            self._right = label

    def choose(self, left: str, right: str) -> None:
        """The visitor's own pair. Raises ValueError for a label that this run does not have."""
        unknown = [label for label in (left, right) if label not in self.files]
        if unknown:
            raise ValueError(f"There is no result {unknown[0]!r} yet; choose one of {', '.join(self.files)}.")
        self._left, self._right, self._chosen = left, right, True

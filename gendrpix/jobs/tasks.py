"""Jobs of many pictures: what is to be done, and what became of it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendrpix.errors import PictureError
from gendrpix.files import make_folder, quoted, remove_stale_parts, write_text
from gendrpix.image.formats import SUFFIXES
from gendrpix.image.read import is_picture_name

COLUMNS = ("file", "result", "status", "seconds", "width", "height", "result_width", "result_height", "reason")
"""Of the CSV report."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One picture to restore, and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one task."""

    task: Task
    status: Literal["restored", "skipped", "failed"]
    seconds: float | None = None
    """The model's time, from the decoded picture to the restored pixels; a batch's is shared out equally."""
    size: tuple[int, int] | None = None
    """(width, height) of the picture."""
    result_size: tuple[int, int] | None = None
    """(width, height) of the result."""
    notes: tuple[str, ...] = ()
    """How the picture was read, where a user should know."""
    reason: str = ""
    """Why it failed, a sentence."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Where the time of a job went."""

    wall_s: float
    """From the start to the last file written, without the loading of the weights."""
    model_s: float
    """Of it, within the model's call."""

    @property
    def share(self) -> float:
        """The share of the wall time in which the model computed."""
        return self.model_s / self.wall_s if self.wall_s > 0 else 0.0


# What is to be done ------------------------------------------------------------------------------------------------


def plan_tasks(inputs: Iterable[Path], output: Path) -> list[Task]:
    """A task for each file, and for each picture below each folder, sorted, its place in the folder kept; none twice.

    Hidden files and folders and `output` itself are left out of folders. Raises ValueError for what is not there, a
    folder without pictures, and two inputs that would share a result.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; give a folder with -o.")
    names: dict[Path, Path] = {}  # source => result's name within `output`
    for given in inputs:
        if given.is_dir():
            for source in pictures_below(given, output):
                names.setdefault(source, source.relative_to(given).with_suffix(".png"))
        elif given.exists():
            names.setdefault(given, Path(f"{given.stem}.png"))
        else:
            raise PictureError(f"{quoted(given)} is not there; check the path.")
    owners: dict[str, Path] = {}
    for source, name in names.items():
        key = name.as_posix().casefold()  # some file systems do not tell a.png from A.png
        if key in owners:
            raise ValueError(
                f"{owners[key]} and {source} would both become {output / name}; "
                "restore them one by one into different folders."
            )
        owners[key] = source
    return [Task(source=source, target=output / name) for source, name in names.items()]


def pictures_below(folder: Path, output: Path) -> list[Path]:
    """The picture files in a folder and its folders, sorted. Raises PictureError where there are none."""
    found: list[Path] = []
    skipped = output.resolve()
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if name[0] != "." and (here / name).resolve() != skipped)
        inside = (here / name for name in sorted(files))
        found.extend(path for path in inside if is_picture_name(path) and path.is_file())
    if not found:
        raise PictureError(f"The folder {quoted(folder)} holds no pictures ({', '.join(SUFFIXES)}); choose another.")
    return found


def remove_stale_parts_of(tasks: Iterable[Task]) -> None:
    """Remove the half-written files that a killed run has left in the results' folders."""
    for folder in {task.target.parent for task in tasks}:
        remove_stale_parts(folder)


# The report --------------------------------------------------------------------------------------------------------


def check_report(path: Path, overwrite: bool) -> None:
    """Raise ValueError where the report would replace another file than an earlier report."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file for the report.")
    if path.exists() and not overwrite:
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() != ",".join(COLUMNS):
                raise ValueError(f"{path} exists already and is no report; choose another name or use --overwrite.")


def write_report(outcomes: Iterable[Outcome], path: Path) -> None:
    """One line a file, empty where there is no figure. Raises PictureError where it cannot be written."""
    make_folder(path.parent)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in outcomes:
        sizes = [*(one.size or ("", "")), *(one.result_size or ("", ""))]
        seconds = "" if one.seconds is None else f"{one.seconds:.6f}"
        writer.writerow([one.task.source, one.task.target, one.status, seconds, *sizes, one.reason])
    write_text(path, text.getvalue())

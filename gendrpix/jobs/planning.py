"""What a job is to do: the pictures that were named, those below folders too, and where each result goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from gendrpix.errors import PictureError
from gendrpix.files import quoted
from gendrpix.image.formats import SUFFIXES
from gendrpix.jobs.names import FreeNames
from gendrpix.jobs.tasks import Task
from gendrpix.settings.recipe import read_entry

Why = Literal[
    "other kind", "hidden", "link to a folder", "link to nothing", "no ordinary file", "cannot be read", "result"
]
"""Why a name in a folder is left out. A result is one of ours, told by the recipe in it."""
SHOWN = 3
"""Names of each kind that are left out and said on the terminal; the report has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A name in a folder that is no task."""

    path: Path
    why: Why


@dataclass(kw_only=True)
class Planned:
    """What a job is to do."""

    tasks: list[Task] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def shard(self, index: int, count: int) -> list[Task]:
        """Every `count`-th task, from number `index` on; the first is 1."""
        return self.tasks[index - 1 :: count]

    def said(self) -> str:
        """What is left out, in a line: "left out: 2 of other kind (a.txt, b.nef), 1 hidden"; empty for nothing."""
        said = []
        for why, count in Counter(one.why for one in self.left_out).items():
            names = [quoted(one.path) for one in self.left_out if one.why == why][:SHOWN]
            more = [f"{count - SHOWN:,} more"] if count > SHOWN else []
            said.append(f"{count:,} {why} ({', '.join([*names, *more])})")
        return f"left out: {', '.join(said)}" if said else ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where results go and how they are named."""

    folder: Path | None
    """None is beside each picture."""
    ending: str = ""
    """Put after the picture's own name."""
    suffix: str = ".png"


def plan_tasks(inputs: Iterable[Path], place: Place, listed: Iterable[Path] = ()) -> Planned:
    """A task for each file, and for each picture below each folder, sorted, its place in the folder kept; none twice.

    listed: more of them, of which a relative name keeps its folders below `place.folder`; one that is not there fails
    alone, later. Pictures whose results would share a name get numbers. In folders the suffix decides; hidden names,
    links to folders and `place.folder` itself are left out, and where results lie among the pictures, results.
    Raises ValueError for what is not there, and where there is nothing to do.
    """
    if place.folder is not None and place.folder.exists() and not place.folder.is_dir():
        raise ValueError(f"{place.folder} is a file; give a folder with -o.")
    planned = Planned()
    found: dict[Path, PurePath] = {}  # source => its name below the output folder
    empty: list[Path] = []
    for given in inputs:
        if given.is_dir():
            before = len(found)
            for source in pictures_below(given, place.folder, planned.left_out):
                found.setdefault(source, source.relative_to(given))
            empty += [given] if len(found) == before else []
        elif given.exists() or given.is_symlink():
            found.setdefault(given, PurePath(given.name))
        else:
            raise PictureError(f"{quoted(given)} is not there; check the path.")
    for given in listed:
        kept = given if not given.is_absolute() and ".." not in given.parts else PurePath(given.name)
        if given.is_dir():
            for source in pictures_below(given, place.folder, planned.left_out):
                found.setdefault(source, kept / source.relative_to(given))
        else:
            found.setdefault(given, kept)
    if empty and not found and not any(one.why == "result" for one in planned.left_out):
        raise PictureError(f"The folder {quoted(empty[0])} holds no pictures ({', '.join(SUFFIXES)}); choose another.")
    planned.tasks = name_results(found, place)
    return planned


def name_results(found: dict[Path, PurePath], place: Place) -> list[Task]:
    """A task for each source. No two results share a name, and none has that of a source."""
    beside = place.folder is None
    folder = place.folder or Path()
    free = FreeNames(map(str, found) if beside else names_of_sources(found, folder))
    tasks = []
    for source, name in found.items():
        stem = os.path.splitext(source if beside else name)[0] + place.ending
        tasks.append(Task(source=source, target=folder / free.take(stem, place.suffix)))
    return tasks


def names_of_sources(found: Iterable[Path], folder: Path) -> Iterator[str]:
    """The names, relative to `folder`, of the sources that lie within it."""
    here = folder.resolve()
    known: dict[str, str | None] = {}  # a source's folder => the same below `folder`
    for source in found:
        parent, name = os.path.split(source)
        if parent not in known:
            place = Path(parent).resolve()
            known[parent] = str(place.relative_to(here)) if place.is_relative_to(here) else None
        if (below := known[parent]) is not None:
            yield name if below == "." else os.path.join(below, name)


def pictures_below(folder: Path, output: Path | None, left_out: list[LeftOut]) -> list[Path]:
    """The picture files in a folder and its folders, sorted, a folder's own before those below it."""
    skipped = None if output is None else output.resolve()
    whole = folder.resolve()
    among = skipped is None or skipped.is_relative_to(whole)
    found: list[Path] = []
    waiting = [str(folder)]
    while waiting:
        inside: list[str] = []
        for entry in listed_entries(waiting.pop(), left_out):
            path = Path(entry.path)
            why, is_folder = look_at(entry)
            if is_folder and why is None:
                if skipped is None or skipped == whole or not same_folder(path, skipped):
                    inside.append(entry.path)
            elif why is None and among and read_entry(path) is not None:
                left_out.append(LeftOut(path=path, why="result"))
            elif why is None:
                found.append(path)
            else:
                left_out.append(LeftOut(path=path, why=why))
        waiting += reversed(inside)
    return found


def same_folder(path: Path, resolved: Path) -> bool:
    """Whether a folder is the one of that resolved path."""
    return path.name == resolved.name and path.resolve() == resolved


def listed_entries(folder: str, left_out: list[LeftOut]) -> Sequence[os.DirEntry[str]]:
    """The names in a folder, sorted; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        left_out.append(LeftOut(path=Path(folder), why="cannot be read"))
        return []


def look_at(entry: os.DirEntry[str]) -> tuple[Why | None, bool]:
    """(why a name in a folder is left out, or None; whether it is a folder)."""
    try:
        is_folder = entry.is_dir()
        if entry.name.startswith("."):
            return "hidden", is_folder
        if is_folder:
            return ("link to a folder" if entry.is_symlink() else None), True
        if not entry.name.lower().endswith(SUFFIXES):
            return "other kind", False
        if entry.is_file():
            return None, False
        return ("link to nothing" if entry.is_symlink() else "no ordinary file"), False
    except OSError:
        return "cannot be read", False


def read_list(data: bytes) -> list[Path]:
    """The names in a list, one a line, or ended by zero bytes as `find -print0` writes them; none twice."""
    parts = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
    return [Path(name) for name in dict.fromkeys(os.fsdecode(part) for part in parts if part)]

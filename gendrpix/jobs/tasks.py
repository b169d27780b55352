"""Jobs of many pictures: one thing to be done, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendrpix.files import remove_stale_parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One picture to restore, and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True, kw_only=True, slots=True)
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


def remove_stale_parts_of(tasks: Iterable[Task]) -> None:
    """Remove the half-written files that a killed run has left in the results' folders."""
    for folder in {task.target.parent for task in tasks}:
        remove_stale_parts(folder)

"""The report of a job: a line for each picture as its outcome comes, in the order of the tasks once all are there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from gendrpix.files import csv_text, make_folder, printable, write_text
from gendrpix.jobs.planning import LeftOut
from gendrpix.jobs.tasks import Outcome

COLUMNS = ("file", "result", "status", "seconds", "width", "height", "result_width", "result_height", "reason")
"""What a line tells, in CSV and as keys of JSON lines."""
JSON_SUFFIXES = (".jsonl", ".ndjson")
LEFT_OUT = "left out"
"""Status of what a folder leaves out; the reason says why."""


class Report:
    """A report that is written as the job goes on, so that a killed job has one."""

    def __init__(self, path: Path, *, is_first: bool = True) -> None:
        """Begin the report at `path`; others that share the job add to it. Raises PictureError."""
        self.path = path
        if is_first:
            make_folder(path.parent)
            write_text(path, heading(path))

    def add(self, outcome: Outcome) -> None:
        """A line, written at once. What cannot be written is said when the report is finished."""
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(line_of(fields_of(outcome), self.path).encode())

    def finish(self, outcomes: Iterable[Outcome], left_out: Iterable[LeftOut] = ()) -> None:
        """The whole report anew. Raises PictureError."""
        write_report(outcomes, self.path, left_out)


def write_report(outcomes: Iterable[Outcome], path: Path, left_out: Iterable[LeftOut] = ()) -> None:
    """A line for each, CSV or JSON lines by the path's ending. Raises PictureError where it cannot be written."""
    make_folder(path.parent)
    lines = [line_of(fields_of(one), path) for one in outcomes]
    others = (dict.fromkeys(COLUMNS) | {"file": one.path, "status": LEFT_OUT, "reason": one.why} for one in left_out)
    lines += [line_of(one, path) for one in others]
    write_text(path, heading(path) + "".join(lines))


def check_report(path: Path, overwrite: bool) -> None:
    """Raise ValueError where the report would replace another file than an earlier report."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file for the report.")
    if path.exists() and not overwrite:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline().strip()
        if first and first != ",".join(COLUMNS) and not is_json_line(first):
            raise ValueError(f"{path} exists already and is no report; choose another name or use --overwrite.")


def is_json_line(text: str) -> bool:
    """Whether a line is one of a report of JSON lines."""
    try:
        return tuple(json.loads(text)) == COLUMNS
    except (ValueError, TypeError):
        return False


def fields_of(outcome: Outcome) -> dict[str, object]:
    """What a line tells of an outcome; None where there is no figure."""
    width, height = outcome.size or (None, None)
    result_width, result_height = outcome.result_size or (None, None)
    seconds = None if outcome.seconds is None else round(outcome.seconds, 6)
    values = (outcome.task.source, outcome.task.target, outcome.status, seconds, width, height)
    return dict(zip(COLUMNS, (*values, result_width, result_height, outcome.reason), strict=True))


def line_of(fields: Mapping[str, object], path: Path) -> str:
    """Fields as a line of CSV, empty where there is no value, or as a JSON object; names printable."""
    plain = {key: printable(str(value)) if isinstance(value, Path) else value for key, value in fields.items()}
    if path.suffix.lower() in JSON_SUFFIXES:
        return json.dumps(plain, ensure_ascii=False) + "\n"
    return csv_text([list(plain.values())])


def heading(path: Path) -> str:
    """What a report begins with."""
    return "" if path.suffix.lower() in JSON_SUFFIXES else csv_text([COLUMNS])

"""What `judge` writes down: a CSV line a result, a JSON document, and a Markdown page with medians and crops."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendrpix import __version__
from gendrpix.files import write_text
from gendrpix.report.tables import DASH, Table
from training.evaluation.judge.figures import HEADINGS, Judgement, medians

PAGE = "README.md"
METHOD = (
    "All figures are medians over the photos, of results as they are saved, in 8 bits, on luma (0 to 255).",
    "Noise: the mean absolute deviation from a 5 x 5 mean, in the fifth of the 16 x 16 blocks that vary least in the "
    "reference's result. Lower is not better without end: compare it with the reference's.",
    "Distance: the mean absolute difference to the reference's result, both less their 65 x 65 mean. It tells how near "
    "a result is to the reference, not to the truth, which nobody has.",
    "Grid score: by how many dB an 8-pixel pattern stands out. JPEG blocks in a photo raise it too.",
    "NIQE and PIQE decide nothing. They compare local statistics with those of sharp photos, so made-up texture "
    "counts as sharpness: noise added to a smooth enlargement makes PIQE better.",
    "What decides is the vote. The photos and sheets are for looking only; nothing is trained on them.",
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Everything that was measured."""

    rows: Sequence[Judgement]
    groups: Mapping[str, tuple[str, ...]]
    """Group => those of its photos that were judged, at least one."""
    names: tuple[str, ...]
    """The figures, in the order of the columns."""
    label: str
    """What the page calls the set of photos."""

    @property
    def num_photos(self) -> int:
        return len({row.photo for row in self.rows})

    def of(self, photos: Sequence[str]) -> list[Judgement]:
        """The rows of some photos."""
        return [row for row in self.rows if row.photo in photos]


def to_csv(judged: Judged, path: Path) -> None:
    """Write a line for each photo and method, figures unrounded; an empty cell where one is missing."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(("photo", "method", "width_px", "height_px", "groups", *judged.names))
    for row in judged.rows:
        groups = ";".join(group for group, photos in judged.groups.items() if row.photo in photos)
        cells = (row.values.get(name) for name in judged.names)
        writer.writerow((row.photo, row.method, row.width_px, row.height_px, groups, *cells))
    write_text(path, file.getvalue())


def to_document(judged: Judged, reference: str, *, num_photos: int, seed: int) -> dict[str, Any]:
    """Medians, by group too, and every figure with the reasons for missing ones, as plain values."""
    return {
        "gendrpix": __version__,
        "set": judged.label,
        "num_photos": judged.num_photos,
        "num_photos_in_folder": num_photos,
        "reference": reference,
        "seed": seed,
        "medians": medians(judged.rows, judged.names),
        "groups": {
            name: {"photos": list(photos), "medians": medians(judged.of(photos), judged.names)}
            for name, photos in judged.groups.items()
        },
        "rows": [
            {"photo": row.photo, "method": row.method, "values": dict(row.values), "missing": dict(row.missing)}
            for row in judged.rows
        ],
    }


def write_page(out: Path, judged: Judged, document: Mapping[str, Any], crops: Sequence[Path]) -> Path:
    """Write the page; gives back its path. crops: pictures beside it."""
    lines = [f"# {judged.label}: judged by looking", ""]
    count, every = document["num_photos"], document["num_photos_in_folder"]
    lines += [
        f"Photos: {count}" + (f" of {every}, those whose results are at hand" if count < every else "") + ". "
        f"The reference is {document['reference']}.",
        "",
        medians_table(document["medians"], judged.names).to_markdown(),
        "",
    ]
    for name, group in document["groups"].items():
        lines += [f"## Group: {name}", "", f"Photos ({len(group['photos'])}): {', '.join(group['photos'])}.", ""]
        lines += [medians_table(group["medians"], judged.names).to_markdown(), ""]
    lines += ["## How to read it", "", *(f"- {note}" for note in METHOD), ""]
    if missing := missing_notes(judged.rows):
        lines += ["Missing figures:", "", *(f"- {note}" for note in missing), ""]
    lines += ["## Crops", "", "One crop a photo, at full size, at a place drawn before there was any result.", ""]
    lines += [f"![Crops, part {number}]({path.name})" for number, path in enumerate(crops, start=1)]
    write_text(out / PAGE, "\n".join(lines).rstrip() + "\n")
    return out / PAGE


def medians_table(found: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Table:
    """A line a method, a column a figure."""
    rows = tuple(
        (method, *(f"{of_one[name]:.2f}" if name in of_one else DASH for name in names))
        for method, of_one in found.items()
    )
    return Table(header=("Method", *(HEADINGS[name] for name in names)), rows=rows)


def missing_notes(rows: Sequence[Judgement]) -> list[str]:
    """Every reason for a missing figure, once, with whose results and how many."""
    found: dict[str, list[Judgement]] = {}
    for row in rows:
        for reason in row.missing.values():
            found.setdefault(reason, []).append(row)
    return [
        f"{reason} ({len(of_one)} of {len(rows)} results: {', '.join(dict.fromkeys(row.method for row in of_one))})"
        for reason, of_one in found.items()
    ]

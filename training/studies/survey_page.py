"""A survey as a page: tables and sheets of crops of every set, how they were made, and the command that makes them."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gendrpix.files import write_text
from training.evaluation.figures import to_webp
from training.evaluation.report import (
    METHOD,
    cautions,
    describe_autoencoder,
    describe_size,
    difference_table,
    from_document,
    incomplete_notes,
    summary_table,
)
from training.evaluation.statistics import Row
from training.studies.config import SurveyConfig

PAGE = "README.md"
AGAINST = ("bicubic", "gendr")
"""Whom paired differences are taken to, where they take part."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One set of the page: what its evaluation wrote, or why there is nothing."""

    name: str
    folder: Path
    document: Mapping[str, Any] | None = None
    error: str = ""


def write_page(config: SurveyConfig, sections: Sequence[Section]) -> Path:
    """Write pictures and page; pictures of an earlier page that this one does not show go."""
    config.out.mkdir(parents=True, exist_ok=True)
    shown = [section for section in sections if section.document is not None]
    for section in shown:
        share = config.picture_kb * 1000 // len(shown)
        picture = to_webp(Image.open(section.folder / "crops.png"), share)
        (config.out / f"{section.name}.webp").write_bytes(picture)
    for old in config.out.glob("*.webp"):
        if old.stem not in {section.name for section in shown}:
            old.unlink()
    lines = ["# Restorers side by side", "", *introduction(config, shown)]
    for section in sections:
        lines += describe_section(section)
    write_text(config.out / PAGE, "\n".join(lines).rstrip() + "\n")
    return config.out / PAGE


def introduction(config: SurveyConfig, shown: Sequence[Section]) -> list[str]:
    """What the page is, how to read it, and how the figures were made."""
    lines = [
        "This page is made by one command, below; it is not edited by hand.",
        "",
        *(f"- {note}" for note in METHOD),
        "- Time, where it is shown, is warm wall time a picture; PadCFG at several omegas is run once, and they share",
        "  its time. Peak memory is without weights, except on CUDA.",
        "- A sheet shows one crop a picture, enlarged without smoothing: where the restorer named in the caption",
        "  is furthest from the truth, or has the most detail where there is none. Half of the pictures are its worst.",
        "",
    ]
    if shown:
        lines += describe_making([section.document for section in shown if section.document is not None])
    return [*lines, "```console", to_command(config), "```", "", *describe_autoencoders(shown)]


def describe_making(headers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Weights, device, versions: one line for each thing that all sets share, several where they differ."""
    rows = []
    for label, describe in (
        ("Weights", lambda one: f"{one['weights']}: " + ", ".join(digests(one))),
        ("Device, dtype", lambda one: f"{one['device']}, {one['dtype']}"),
        ("Self-attention", lambda one: ", ".join(one["attention"])),
        ("PadCFG", lambda one: f"p_pos {tuple(one['pos_pad'])}, p_neg {tuple(one['neg_pad'])}"),
        ("LPIPS", lambda one: one["lpips_net"]),
        (
            "Versions",
            lambda one: ", ".join(f"{key} {one[key]}" for key in ("gendrpix", "torch", "diffusers", "pyiqa", "python")),
        ),
    ):
        rows += [f"| {label} | {value} |" for value in dict.fromkeys(map(describe, headers))]
    return ["| | |", "|---|---|", *rows, ""]


def digests(header: Mapping[str, Any]) -> list[str]:
    """Each restorer with the first digits of the SHA-256 of its files, those with the same together."""
    named: dict[str, list[str]] = {}
    for name, digest in header["weights_sha256"].items():
        restorer = name.partition("@")[0].partition("/")[0].removesuffix("*")
        named.setdefault(digest, []).append(restorer)
    return [f"{', '.join(dict.fromkeys(names))} `{digest}`" for digest, names in named.items()]


def to_command(config: SurveyConfig) -> str:
    """The command with every setting that is not the default; folders by name alone, in capitals."""
    words = ["python -m training survey"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        shown = " ".join(shlex.quote(placeholder(field.name, one)) for one in values)
        words.append(f"--{field.name.replace('_', '-')} {shown}")
    return " \\\n    ".join(words)


def placeholder(field: str, value: object) -> str:
    """A setting as the command shows it: no path of this machine."""
    if isinstance(value, Path):
        own = field in ("out", "work") and not value.is_absolute()
        return value.as_posix() if own else value.resolve().name.upper()
    if field in ("outputs", "baselines"):
        name, _, place = str(value).partition("=")
        return f"{name}={Path(place).resolve().name}"
    if field == "weights" and Path(str(value)).is_dir():
        return Path(str(value)).resolve().name.upper()
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_autoencoders(shown: Sequence[Section]) -> list[str]:
    """The autoencoder alone, set by set, where it was scored."""
    said = [
        (section.document["set"], note.partition(": ")[2])
        for section in shown
        if section.document is not None
        for note in describe_autoencoder(section.document)
    ]
    if not said:
        return []
    return [
        "The autoencoder of GenDR and GenDR-Adc alone, D(E(truth)):",
        "",
        *(f"- {name.partition(',')[0]}: {note}" for name, note in said),
        "",
    ]


def describe_section(section: Section) -> list[str]:
    """A set's tables and its sheet, or why there are none."""
    if section.document is None:
        return [f"## {section.name}", "", f"This set could not be evaluated: {section.error}", ""]
    document = section.document
    rows = from_document(document)
    headings = document["headings"]
    lines = [
        f"## {document['set']}",
        "",
        describe_size(document),
        "",
        summary_table(rows, headings, intervals=False).to_markdown(),
        "",
        f"![{document['set']}: crops side by side]({section.name}.webp)",
        "",
        "<details><summary>Confidence intervals and paired differences</summary>",
        "",
        summary_table(rows, headings).to_markdown(),
        "",
    ]
    for against in AGAINST:
        lines += paired_differences(rows, against, headings)
    notes = [*cautions(rows), *incomplete_notes(rows)]
    return [*lines, "</details>", "", *(f"- {note}" for note in notes), *([""] if notes else [])]


def paired_differences(rows: Sequence[Row], against: str, headings: Mapping[str, str]) -> list[str]:
    """The table of paired differences to one restorer, if it takes part."""
    if against not in {row.restorer for row in rows}:
        return []
    table = difference_table(rows, against, headings)
    return [table.to_markdown(), ""] if table.rows else []

"""An evaluation as it is written down: CSV, JSON, Markdown tables, and how the figures were made."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from gendrpix import __version__
from gendrpix.devices import describe_device
from gendrpix.metrics.registry import METRICS
from gendrpix.metrics.scorer import Scorer
from gendrpix.report.tables import DASH, Table, format_bytes, format_seconds
from training.evaluation.config import EvaluateConfig
from training.evaluation.datasets import EvaluationDataset
from training.evaluation.methods import Method
from training.evaluation.statistics import CONFIDENCE, INTERVALS, Interval, Row, by_restorer, differences, summarise

METHOD = (
    f"Means with {INTERVALS}",
    "PSNR and SSIM on Y (BT.601), no border crop; everything is scored rounded to 8 bits.",
    "The grid score shows a pattern of 8 pixels: compare it with the truth's; a high one casts doubt on the rest.",
)
"""What a reader must know of every evaluation's figures."""


def make_headings(scorer: Scorer) -> dict[str, str]:
    """Metric => column heading, with LPIPS's trunk."""
    return {name: METRICS[name].heading.replace(METRICS[name].label, scorer.label(name)) for name in scorer.names}


def describe(
    config: EvaluateConfig, dataset: EvaluationDataset, methods: Sequence[Method], rows: Sequence[Row], scorer: Scorer
) -> dict[str, Any]:
    """How the figures were made: set, weights, device, versions. Folders by name only."""
    sizes = sorted({(row.width_px, row.height_px) for row in rows})
    computed = [row for row in rows if row.dtype]
    place = Path(config.weights)
    return {
        "gendrpix": __version__,
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
        "pyiqa": importlib.metadata.version("pyiqa"),
        "python": platform.python_version(),
        "set": dataset.label,
        "num_pictures": len(dataset),
        "sizes_px": [f"{width} x {height}" for width, height in sizes],
        "scale": dataset.scale,
        "weights": place.resolve().name if place.is_dir() else config.weights,
        "weights_sha256": {method.name: method.weights for method in methods if method.weights},
        "labels": {method.name: method.label for method in methods},
        "guidance": list(config.guidance),
        "pos_pad": config.pos_pad,
        "neg_pad": config.neg_pad,
        "plain_cfg": config.plain_cfg,
        "attention": list(config.attention) or ["as loaded"],
        "device": computed[0].device if computed else describe_device(torch.device("cpu")),
        "dtype": computed[0].dtype if computed else "float32",
        "repeats": config.repeats,
        "lpips_net": config.lpips_net,
        "metrics": list(scorer.names),
        "headings": make_headings(scorer),
    }


def to_markdown(rows: Sequence[Row], header: Mapping[str, Any], against: str, headings: Mapping[str, str]) -> str:
    """The report: how it was made, the means, the paired differences, what is missing and why."""
    digests = ", ".join(f"{name} `{digest}`" for name, digest in header["weights_sha256"].items())
    lines = [
        f"# {header['set']}",
        "",
        f"{describe_size(header)} Weights: " + (f"{header['weights']} ({digests})." if digests else "none."),
        f"Time is warm wall time a picture on {header['device']}, {header['dtype']}; gendrpix {header['gendrpix']}, "
        f"torch {header['torch']}. Peak memory is without weights, except on CUDA.",
        "",
        summary_table(rows, headings).to_markdown(),
        "",
    ]
    compared: Table = difference_table(rows, against, headings)
    if compared.rows:
        lines += ["Paired differences, picture by picture:", "", compared.to_markdown(), ""]
    notes = [*describe_autoencoder(header), *METHOD, *cautions(rows), *incomplete_notes(rows)]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def describe_size(header: Mapping[str, Any]) -> str:
    """How many pictures of which size, as a sentence."""
    sizes = header["sizes_px"]
    shown = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"
    count = header["num_pictures"]
    return f"{count} picture{'s' if count > 1 else ''}, results of {shown} px."


def describe_autoencoder(header: Mapping[str, Any]) -> list[str]:
    """A sentence on the autoencoder alone, where it was scored."""
    found = header.get("autoencoder")
    if not found:
        return []
    text = Interval.from_dict(found["psnr_rgb_db"]).to_text(2)
    return [
        f"The autoencoder alone, D(E(truth)): PSNR over R, G and B {text} dB (whole pictures, cropped to multiples "
        "of 8)."
    ]


FIXED_COLUMNS = (
    "restorer",
    "picture",
    "width_px",
    "height_px",
    "degradation",
    "seconds",
    "peak_bytes",
    "device",
    "dtype",
)


# Files -------------------------------------------------------------------------------------------------------------


class CsvTable:
    """Writes each row as it comes, unrounded, so that an interrupted evaluation keeps what it has."""

    def __init__(self, file: TextIO, metrics: Sequence[str]) -> None:
        self._file, self._metrics = file, tuple(metrics)
        self._writer = csv.writer(file)
        self._writer.writerow([*FIXED_COLUMNS, *self._metrics])

    def add(self, row: Row) -> None:
        """One line; an empty cell where a figure is missing."""
        plain = [getattr(row, column) for column in FIXED_COLUMNS]
        self._writer.writerow([*plain, *(row.values.get(metric) for metric in self._metrics)])
        self._file.flush()


def summary_table(rows: Sequence[Row], headings: Mapping[str, str], *, intervals: bool = True) -> Table:
    """Mean and interval of every metric that at least one restorer has; mean time; largest peak memory.

    A restorer without any figure has no line, as the truth where only distances to it are computed; time and memory
    have no column where nobody's was measured. intervals: False for the means alone.
    """
    summary = summarise(rows)
    shown = [name for name in METRICS if any(name in of_one for of_one in summary.values())]
    measured = any(row.seconds is not None for row in rows)
    lines = []
    for name, of_one in by_restorer(rows).items():
        times = [row.seconds for row in of_one if row.seconds is not None]
        peaks = [row.peak_bytes for row in of_one if row.peak_bytes is not None]
        if not (summary[name] or times):
            continue
        lines.append(
            (
                of_one[0].label,
                *_cells(summary[name], shown, intervals=intervals),
                *((format_seconds(sum(times) / len(times)) if times else DASH,) if measured else ()),
                *((format_bytes(max(peaks)) if peaks else DASH,) if measured else ()),
            )
        )
    header = ("Restorer", *(headings[name] for name in shown), *(("Time", "Peak memory") if measured else ()))
    return Table(header=header, rows=tuple(lines))


def difference_table(rows: Sequence[Row], against: str, headings: Mapping[str, str]) -> Table:
    """Mean and interval of every metric's paired difference to `against`."""
    found = differences(rows, against)
    labels = {row.restorer: row.label for row in rows}
    shown = [name for name in METRICS if any(name in of_one for of_one in found.values())]
    lines = tuple((labels[name], *_cells(of_one, shown, signed=True)) for name, of_one in found.items())
    return Table(header=(f"Minus {labels[against]}", *(headings[name] for name in shown)), rows=lines)


def _cells(
    of_one: Mapping[str, Interval], shown: Sequence[str], *, signed: bool = False, intervals: bool = True
) -> list[str]:
    def text(name: str) -> str:
        digits = METRICS[name].digits
        return of_one[name].to_text(digits, signed=signed) if intervals else f"{of_one[name].mean:.{digits}f}"

    return [text(name) if name in of_one else DASH for name in shown]


def cautions(rows: Sequence[Row]) -> list[str]:
    """What the metrics that have a value cannot see, a sentence each."""
    return [spec.caution for name, spec in METRICS.items() if spec.caution and any(name in row.values for row in rows)]


def incomplete_notes(rows: Sequence[Row]) -> list[str]:
    """Every reason for a missing figure, once, with the number of pictures where that is not all of them."""
    num_pictures = len({row.picture for row in rows})
    pictures: dict[str, set[str]] = {}
    for row in rows:
        for reason in row.missing.values():
            pictures.setdefault(reason, set()).add(row.picture)
    return [
        reason if len(names) == num_pictures else f"{reason} (on {len(names)} of {num_pictures} pictures)"
        for reason, names in pictures.items()
    ]


def to_document(rows: Sequence[Row], header: Mapping[str, Any], against: str) -> dict[str, Any]:
    """What goes into the JSON file: how it was made, the summary, the paired differences, every row."""

    def plain(found: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
        return {name: {metric: one.to_dict() for metric, one in of_one.items()} for name, of_one in found.items()}

    return {
        **header,
        "confidence": CONFIDENCE,
        "interval": "t",
        "summary": plain(summarise(rows)),
        "against": against,
        "differences": plain(differences(rows, against)),
        "rows": [
            {
                **{column: getattr(row, column) for column in FIXED_COLUMNS},
                "scores": dict(row.values),
                "missing_scores": dict(row.missing),
            }
            for row in rows
        ],
    }


def from_document(document: Mapping[str, Any]) -> list[Row]:
    """The rows of a document that `to_document` made, with the labels in its header."""
    labels = document["labels"]
    return [
        Row(
            label=labels[row["restorer"]],
            values=row["scores"],
            missing=row["missing_scores"],
            **{column: row[column] for column in FIXED_COLUMNS},
        )
        for row in document["rows"]
    ]

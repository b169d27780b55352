"""An evaluation as figures: means with bootstrap intervals over pictures, and the CSV, JSON and Markdown they go to."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from gendrpix.metrics.registry import METRICS
from gendrpix.report.tables import DASH, Table, format_bytes, format_seconds

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_260
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """One restorer's figures on one picture."""

    restorer: str
    label: str
    picture: str
    width_px: int
    height_px: int
    degradation: str
    seconds: float | None
    """Warm wall time; None for what was not computed here."""
    peak_bytes: int | None
    device: str
    dtype: str
    values: Mapping[str, float]
    missing: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over pictures with its bootstrap confidence interval."""

    mean: float
    low: float
    high: float
    """NaN, as `low`, for fewer than two pictures."""
    num_pictures: int

    def to_text(self, digits: int, *, signed: bool = False) -> str:
        """ "27.11 [26.50, 27.72]"; without the interval where there is none."""
        sign = "+" if signed else ""
        text = f"{self.mean:{sign}.{digits}f}"
        if math.isnan(self.low):
            return text
        return f"{text} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values; None in place of NaN, which JSON has not."""
        low, high = (None if math.isnan(end) else end for end in (self.low, self.high))
        return {"mean": self.mean, "low": low, "high": high, "num_pictures": self.num_pictures}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Interval:
        """What `to_dict` gave."""
        low, high = (math.nan if plain[end] is None else plain[end] for end in ("low", "high"))
        return cls(mean=plain["mean"], low=low, high=high, num_pictures=plain["num_pictures"])


def bootstrap(
    values: Sequence[float],
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """The mean and its percentile bootstrap interval (Efron 1979): pictures are drawn with replacement.

    The interval is that of the picture's mean over such sets of pictures, not that of repeated training. Raises
    ValueError for no values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("There is nothing to average; score at least one picture.")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan, num_pictures=1)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(sample.size, size=(num_resamples, sample.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(mean=mean, low=float(low), high=float(high), num_pictures=sample.size)


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """Restorer => metric => interval, over the pictures that have the metric, in the rows' order."""
    return {
        name: {
            metric: bootstrap([row.values[metric] for row in of_one if metric in row.values])
            for metric in METRICS
            if any(metric in row.values for row in of_one)
        }
        for name, of_one in by_restorer(rows).items()
    }


def differences(rows: Sequence[Row], against: str) -> dict[str, dict[str, Interval]]:
    """Restorer => metric => interval of the paired differences to `against`; only those with a metric in common.

    Pairs cancel what is common to both, such as how hard a picture is. Raises ValueError for an unknown name.
    """
    grouped = by_restorer(rows)
    if against not in grouped:
        raise ValueError(f"There is no {against!r} to compare with; expected one of {', '.join(grouped)}.")
    reference = {row.picture: row.values for row in grouped[against]}
    found: dict[str, dict[str, Interval]] = {}
    for name, of_one in grouped.items():
        if name == against:
            continue
        pairs = [(row.values, reference[row.picture]) for row in of_one if row.picture in reference]
        both = {
            metric: [one[metric] - other[metric] for one, other in pairs if metric in one and metric in other]
            for metric in METRICS
        }
        intervals = {metric: bootstrap(values) for metric, values in both.items() if values}
        if intervals:
            found[name] = intervals
    return found


def by_restorer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Restorer => its rows, in the order in which they came."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.restorer, []).append(row)
    return grouped


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
        "num_resamples": NUM_RESAMPLES,
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

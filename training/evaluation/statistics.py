"""The figures of an evaluation: a row for each picture, means and differences with Student's t intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gendrpix.metrics.registry import METRICS
from gendrpix.report.tables import DASH

CONFIDENCE = 0.95
FEWEST_PICTURES = 5
"""Below this number there is no interval: a mean of so few pictures says next to nothing about others."""
INTERVALS = (
    f"{CONFIDENCE:.0%} intervals by Student's t over pictures, none ({DASH}) below {FEWEST_PICTURES} pictures: "
    "so few say next to nothing about others."
)
"""How the intervals are made, for the notes below a table."""


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
    """A mean over pictures with its confidence interval."""

    mean: float
    low: float
    high: float
    """NaN, as `low`, for fewer than `FEWEST_PICTURES`."""
    num_pictures: int

    def to_text(self, digits: int, *, signed: bool = False) -> str:
        """ "27.11 [26.50, 27.72]"; "27.11 [–]" where there is no interval."""
        sign = "+" if signed else ""
        text = f"{self.mean:{sign}.{digits}f}"
        if math.isnan(self.low):
            return f"{text} [{DASH}]"
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


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The mean and its interval by Student's t, with n - 1 degrees of freedom.

    It tells how far other pictures of the same kind would move the mean, not how far another training would. It covers
    the true mean as often as it says for values near a normal distribution, and more often than a percentile bootstrap
    for skewed ones. Raises ValueError for no values.
    """
    from scipy.special import stdtrit

    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("There is nothing to average; score at least one picture.")
    mean = float(sample.mean())
    if sample.size < FEWEST_PICTURES:
        return Interval(mean=mean, low=math.nan, high=math.nan, num_pictures=sample.size)
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = float(stdtrit(sample.size - 1, (1 + confidence) / 2)) * error
    return Interval(mean=mean, low=mean - half, high=mean + half, num_pictures=sample.size)


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """Restorer => metric => interval, over the pictures that have the metric, in the rows' order."""
    return {
        name: {
            metric: mean_interval([row.values[metric] for row in of_one if metric in row.values])
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
        intervals = {metric: mean_interval(values) for metric, values in both.items() if values}
        if intervals:
            found[name] = intervals
    return found


def by_restorer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Restorer => its rows, in the order in which they came."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.restorer, []).append(row)
    return grouped

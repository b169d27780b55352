"""The figures of an evaluation: a row for each picture, means and differences with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gendrpix.metrics.registry import METRICS

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_260


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

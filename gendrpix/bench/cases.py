"""What a benchmark measures: its cases, their figures, and how they grow with the pixels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gendrpix.baselines.networks import BASELINES
from gendrpix.image.resize import check_output_size
from gendrpix.metrics.profiling import Clock, Peak
from gendrpix.settings.options import Bench
from gendrpix.settings.restoration import RestoreSettings, order_choices
from gendrpix.specs import (
    CHOICE_LABELS,
    DEFAULT_OMEGA,
    DEFAULT_SPEEDUPS,
    PATCH,
    Speedup,
)

Quantity = Literal["seconds", "bytes"]
"""What grows with the pixels: time, or peak memory."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time."""

    name: str
    """A key of `specs.CHOICE_LABELS` or `baselines.networks.BASELINES`."""
    width: int
    """Of the output, in pixels."""
    height: int
    dtype: str
    attention: str | None = None
    """None for peers."""
    padcfg: str | None = None
    """"batched" or "sequential"; None without PadCFG."""

    @property
    def label(self) -> str:
        """What readers see."""
        return BASELINES[self.name].label if self.name in BASELINES else CHOICE_LABELS[self.name]

    @property
    def series(self) -> Case:
        """The case without its size: what grows with the pixels."""
        return replace(self, width=0, height=0)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A case and its figures, or the reason why there are none."""

    case: Case
    all_seconds: tuple[float, ...] = ()
    peak: Peak | None = None
    parameters: int | None = None
    macs: int | None = None
    """Multiply-adds, attention's products included."""
    attention_macs: int | None = None
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """The median."""
        return statistics.median(self.all_seconds) if self.all_seconds else None

    @property
    def flops(self) -> float | None:
        """Achieved FLOP/s: two a multiply-add."""
        return 2 * self.macs / self.seconds if self.macs and self.seconds else None

    @property
    def megapixels_per_s(self) -> float | None:
        """Output megapixels a second."""
        return self.case.width * self.case.height / 1e6 / self.seconds if self.seconds else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run measures."""

    cases: tuple[Case, ...]
    weights: str
    """A bundled family, a folder or a hub id; the family's name where they are random."""
    random_weights: bool
    warmup: int
    repeats: int
    speedups: tuple[Speedup, ...] = DEFAULT_SPEEDUPS
    clock: Clock = "wall"
    """What the seconds are measured by; "cpu" is the processor time of all threads."""


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """All figures of one run."""

    plan: Plan
    environment: dict[str, Any]
    ceilings: dict[str, float]
    """dtype => FLOP/s of a matrix product in the same run."""
    measured: tuple[Measured, ...]

    def ratio(self, one: Measured) -> float | None:
        """How many times as fast as GenDR at the same size, dtype and attention; peers: any attention of GenDR's."""
        case = one.case
        for other in self.measured:
            same = (other.case.width, other.case.height, other.case.dtype) == (case.width, case.height, case.dtype)
            if other.case.name == "gendr" and same and case.attention in (None, other.case.attention):
                return other.seconds / one.seconds if other.seconds and one.seconds else None
        return None

    def share(self, one: Measured) -> float | None:
        """Achieved FLOP/s as a share of the ceiling."""
        ceiling = self.ceilings.get(one.case.dtype)
        return one.flops / ceiling if one.flops and ceiling else None

    def points(self, quantity: Quantity = "seconds") -> dict[Case, list[tuple[int, float]]]:
        """Series => (pixels, seconds or peak bytes) of each of its cases that was measured."""
        points: dict[Case, list[tuple[int, float]]] = {}
        for one in self.measured:
            value = one.seconds if quantity == "seconds" else one.peak.bytes if one.peak else None
            if value:
                points.setdefault(one.case.series, []).append((one.case.width * one.case.height, value))
        return points

    def exponents(self, quantity: Quantity = "seconds") -> dict[Case, float]:
        """Series => b of the least-squares fit `value = a * pixels ** b`, where there are two sizes or more."""
        return {
            series: fit_exponent(*zip(*pairs, strict=True))
            for series, pairs in self.points(quantity).items()
            if len({pixels for pixels, _ in pairs}) > 1
        }


def fit_exponent(pixels: Sequence[int], values: Sequence[float]) -> float:
    """b of `value = a * pixels ** b`, by least squares of the logarithms."""
    slope, _ = np.polyfit([math.log(n) for n in pixels], [math.log(value) for value in values], 1)
    return float(slope)


def series_label(case: Case) -> str:
    """A case without its size: "GenDR-Pix, float32, auto, batched"."""
    return ", ".join(part for part in (case.label, case.dtype, case.attention, case.padcfg) if part)


# What is measured --------------------------------------------------------------------------------------------------


def plan_bench(options: Bench) -> Plan:
    """The cases, GenDR first, peers last. Raises ValueError for options that make no sense."""
    if options.model is not None and not options.random_weights:
        raise ValueError("--model says what --random-weights builds; give both, or --weights.")
    if options.weights is not None and options.random_weights:
        raise ValueError("--weights and --random-weights exclude each other; give one of them.")
    if options.warmup < 0 or options.repeats < 1:
        raise ValueError(f"--warmup is {options.warmup}, --repeats {options.repeats}; expected at least 0 and 1.")
    sizes = [parse_size(text) for text in options.sizes]
    named = order_choices(options.restorers, RestoreSettings(guidance=DEFAULT_OMEGA))
    cases = []
    for dtype in dict.fromkeys(options.dtypes):
        for name in named:
            for kind in dict.fromkeys(options.attention):
                for branches in dict.fromkeys(options.padcfg) if name == "gendr-pix" else (None,):
                    cases += [
                        Case(name=name, width=width, height=height, dtype=dtype, attention=kind, padcfg=branches)
                        for width, height in sizes
                    ]
        for peer in dict.fromkeys(options.peers):
            cases += [Case(name=peer, width=width, height=height, dtype=dtype) for width, height in sizes]
    if not cases or not sizes:
        raise ValueError("There is nothing to time; name at least one restorer, size, attention and dtype.")
    return Plan(
        cases=tuple(cases),
        weights=(options.model or "mini") if options.random_weights else (options.weights or "mini"),
        random_weights=options.random_weights,
        warmup=options.warmup,
        repeats=options.repeats,
        speedups=options.speedups,
        clock=options.clock,
    )


def parse_size(text: str) -> tuple[int, int]:
    """ "512" or "3840x2160" => (width, height). Raises ValueError unless both are multiples of 8."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < PATCH or any(side % PATCH for side in sides):
        raise ValueError(f"The size {text!r} is not usable; give 512 or 3840x2160, sides in multiples of {PATCH}.")
    check_output_size(sides[-1], sides[0])
    return sides[0], sides[-1]


def describe_case(case: Case) -> str:
    """ "GenDR-Pix, 512 x 512, float32, auto, batched"."""
    parts = (case.label, f"{case.width} x {case.height}", case.dtype, case.attention, case.padcfg)
    return ", ".join(part for part in parts if part is not None)

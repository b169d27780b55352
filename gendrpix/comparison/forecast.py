"""What a comparison will take, told before it runs: time from what this process has measured, memory by rehearsal.

Where something does not fit, the refusal proposes what would: a smaller scale, or the restorers that fit as asked.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gendrpix.comparison.comparison import Measurement
from gendrpix.metrics.profiling import Runs
from gendrpix.report.tables import format_bytes, format_seconds
from gendrpix.restore.memory import available_bytes
from gendrpix.restore.planner import AMPLE_BYTES_PER_PX, Plan, PlanError, choose_plan, padded_pixels
from gendrpix.restore.restorer import OneStepRestorer
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS, DEFAULT_SCALE

SCALE_STEP = 0.25
"""Scales that are tried for a proposal are multiples of it."""


class Rates:
    """Seconds that restorers have taken here, by the size of the result: the most recent of each size is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, dict[int, float]] = {}

    def learn(self, one: Measurement) -> None:
        """Keep a fresh measurement's time, if a run that was not counted went before."""
        if one.seconds is not None and one.runs.warmup > 0:
            width, height = one.size
            with self._lock:
                known = self._known.setdefault(one.name, {})
                known[padded_pixels(height, width, one.settings.guidance is not None)] = one.seconds

    def seconds(self, choice: str, height: int, width: int) -> float | None:
        """The expected time at height x width pixels, from the nearest size that was measured; None if none was."""
        pixels = padded_pixels(height, width, choice == "gendr-pix")
        with self._lock:
            known = self._known.get(choice, {})
            if not known:
                return None
            nearest = min(known, key=lambda one: abs(math.log(one / pixels)))
            return known[nearest] * pixels / nearest


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one restorer is expected to take."""

    label: str
    seconds: float | None
    """Of one run; None before anything was measured."""
    plan: Plan
    """How it will run: whole, or in tiles."""


def forecast(
    choices: Sequence[str],
    height: int,
    width: int,
    settings: RestoreSettings,
    restorers: Callable[[str], OneStepRestorer],
    rates: Rates,
) -> list[Forecast]:
    """What each choice is expected to take for a result of height x width pixels.

    Raises PlanError, with a proposal, where one cannot fit even in tiles.
    """
    found = []
    for choice in choices:
        try:
            plan = plan_choice(choice, height, width, settings, restorers(choice))
        except PlanError as error:
            proposal = propose(choices, height, width, settings, restorers)
            raise PlanError(f"{CHOICE_LABELS[choice]}: {error} {proposal}".strip()) from error
        seconds = rates.seconds(choice, height, width)
        found.append(Forecast(label=CHOICE_LABELS[choice], seconds=seconds, plan=plan))
    return found


def check_fits(
    choices: Sequence[str],
    height: int,
    width: int,
    settings: RestoreSettings,
    restorers: Callable[[str], OneStepRestorer],
) -> None:
    """Raise PlanError, with a proposal, where a choice cannot fit; nothing is rehearsed where memory is plenty."""
    if any(height * width * AMPLE_BYTES_PER_PX > available_bytes(restorers(choice).device) for choice in choices):
        forecast(choices, height, width, settings, restorers, Rates())


def plan_choice(choice: str, height: int, width: int, settings: RestoreSettings, restorer: OneStepRestorer) -> Plan:
    """How the choice runs with the memory that is free. Raises PlanError where nothing fits."""
    return choose_plan(restorer, height, width, guided=choice == "gendr-pix", batched=settings.batched)


def propose(
    choices: Sequence[str],
    height: int,
    width: int,
    settings: RestoreSettings,
    restorers: Callable[[str], OneStepRestorer],
) -> str:
    """What would fit instead, in a sentence; empty where nothing does. settings: with a scale."""
    asked = settings.scale or DEFAULT_SCALE

    def fits(choice: str, scale: float) -> bool:
        part = scale / asked
        try:
            plan_choice(choice, math.ceil(height * part), math.ceil(width * part), settings, restorers(choice))
        except PlanError:
            return False
        return True

    said = []
    able = [CHOICE_LABELS[choice] for choice in choices if fits(choice, asked)]
    if able:
        said.append(f"{' and '.join(able)} would fit as asked")
    steps = [step * SCALE_STEP for step in range(math.ceil(asked / SCALE_STEP) - 1, 3, -1)]
    smaller = next((scale for scale in steps if all(fits(choice, scale) for choice in choices)), None)
    if smaller is not None:
        said.append(f"all chosen would fit at scale {smaller:g}")
    return f"Instead: {', or '.join(said)}." if said else ""


def in_a_line(forecasts: Sequence[Forecast], timed: Runs, device: torch.device) -> str:
    """The forecasts as one line: the whole time, warm-up and repeats with it, and the most memory at one time."""
    runs = timed.warmup + timed.repeats
    known = [one.seconds for one in forecasts if one.seconds is not None]
    most = max(one.plan.predicted_bytes for one in forecasts)
    free = format_bytes(available_bytes(device))
    said = []
    if len(known) == len(forecasts):
        each = ", ".join(f"{one.label} {format_seconds(one.seconds)}" for one in forecasts if one.seconds is not None)
        said.append(f"about **{format_seconds(sum(known) * runs)}** for {runs} runs of each ({each} a run)")
    else:
        said.append("the time is not known before the first run here")
    said.append(f"at most about **{format_bytes(most)}** of memory ({free} free)")
    tiled = [f"{one.label} in tiles of {one.plan.tile_px}" for one in forecasts if one.plan.tile_px is not None]
    return " · ".join(["Expected: " + said[0], *said[1:], *tiled])

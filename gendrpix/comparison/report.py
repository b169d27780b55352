"""Measurements as tables: for the page, the terminal, CSV and JSON. One set of columns for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gendrpix import __version__
from gendrpix.comparison.comparison import Measurement
from gendrpix.files import csv_text, write_text
from gendrpix.metrics.registry import LPIPS_LABELS, METRICS, MetricSpec
from gendrpix.report.tables import DASH, Table, format_bytes, format_seconds


def to_table(measurements: Sequence[Measurement]) -> Table:
    """What a user compares: time, speed, memory, the metrics that any of them has, device.

    Raises ValueError for no measurements.
    """
    if not measurements:
        raise ValueError("There are no measurements to show; run a restorer first.")
    columns: list[tuple[str, Callable[[Measurement], str]]] = [
        ("Restorer", lambda one: one.label),
        ("Time", lambda one: DASH if one.seconds is None else format_seconds(one.seconds)),
        ("Speed", lambda one: DASH if one.ratio is None else f"{one.ratio:.2f}×"),
        ("Peak memory", lambda one: DASH if one.peak is None else format_bytes(one.peak.bytes)),
    ]
    columns.extend((heading(spec, measurements), _cell(spec)) for spec in shown_metrics(measurements))
    columns.append(("Device", lambda one: f"{one.device}, {one.dtype}" if one.device else DASH))
    return Table(
        header=tuple(heading for heading, _ in columns),
        rows=tuple(tuple(cell(one) for _, cell in columns) for one in measurements),
        notes=notes(measurements),
    )


def _cell(spec: MetricSpec) -> Callable[[Measurement], str]:
    def cell(one: Measurement) -> str:
        value = one.scores.values.get(spec.name)
        return DASH if value is None else f"{value:.{spec.digits}f}"

    return cell


def heading(spec: MetricSpec, measurements: Sequence[Measurement]) -> str:
    """The metric's heading, for LPIPS with the trunk: figures of different trunks cannot be compared."""
    if spec.name != "lpips":
        return spec.heading
    nets = dict.fromkeys(LPIPS_LABELS[net] for one in measurements if (net := one.scores.lpips_net) is not None)
    return spec.heading.replace(spec.label, f"{spec.label} ({', '.join(nets)})") if nets else spec.heading


def shown_metrics(measurements: Sequence[Measurement]) -> list[MetricSpec]:
    """The metrics that any of them has, in the registry's order."""
    return [spec for spec in METRICS.values() if any(spec.name in one.scores.values for one in measurements)]


def notes(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Why metrics are missing, each reason once; what metrics cannot see; what the columns mean."""
    reasons = dict.fromkeys(reason for one in measurements for reason in one.scores.missing.values())
    said = list(reasons)
    said.extend(spec.caution for spec in shown_metrics(measurements) if spec.caution)
    if any(one.ratio is not None for one in measurements):
        said.append("Speed is relative to GenDR in the same run.")
    methods = dict.fromkeys(one.peak.method for one in measurements if one.peak is not None)
    said.extend(f"Peak memory: {method}." for method in methods if method)
    said.extend(f"{one.label}: {note}" for one in measurements for note in one.notes)
    return tuple(said)


def to_dict(one: Measurement) -> dict[str, Any]:
    """Every figure of a measurement, unrounded, with units in the names and without the pictures."""
    peak = one.peak
    return {
        "restorer": one.name,
        "label": one.label,
        "width_px": one.size[0],
        "height_px": one.size[1],
        "seconds": one.seconds,
        "all_seconds": list(one.all_seconds),
        "speed_relative_to_gendr": one.ratio,
        "peak_bytes": None if peak is None else peak.bytes,
        "reserved_bytes": None if peak is None else peak.reserved,
        "peak_method": None if peak is None else peak.method,
        "notes": list(one.notes),
        "scores": dict(one.scores.values),
        "missing_scores": dict(one.scores.missing),
        "lpips_net": one.scores.lpips_net,
        "device": one.device or None,
        "dtype": one.dtype or None,
        "settings": {**asdict(one.settings), **asdict(one.runs)},
    }


def to_json(measurements: Sequence[Measurement]) -> str:
    """The measurements as a JSON document with the version that made them."""
    document = {"gendrpix": __version__, "records": [to_dict(one) for one in measurements]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_json(measurements: Sequence[Measurement], path: Path) -> None:
    """Write `to_json` as UTF-8."""
    write_text(path, to_json(measurements))


def write_csv(measurements: Sequence[Measurement], path: Path) -> None:
    """Write one line each, unrounded; one column for every metric that was asked for, empty where missing."""
    asked = [
        name for name in METRICS if any(name in one.scores.values or name in one.scores.missing for one in measurements)
    ]
    plain = [
        key
        for key in to_dict(measurements[0])
        if key not in ("scores", "missing_scores", "all_seconds", "notes", "settings")
    ]
    settings = [key for key in to_dict(measurements[0])["settings"] if key not in plain]
    rows: list[list[Any]] = [[*plain, *asked, *settings]]
    for one in measurements:
        row = to_dict(one)
        scores = [one.scores.values.get(name) for name in asked]
        rows.append([*(row[key] for key in plain), *scores, *(row["settings"][key] for key in settings)])
    write_text(path, csv_text(rows))

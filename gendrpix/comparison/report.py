"""Records as tables: for the page, the terminal, CSV and JSON. One set of columns for all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gendrpix import __version__
from gendrpix.comparison.comparison import Record
from gendrpix.files import write_text
from gendrpix.metrics.registry import LPIPS_LABELS, METRICS, MetricSpec
from gendrpix.report.tables import DASH, Table, format_bytes, format_seconds


def to_table(records: Sequence[Record]) -> Table:
    """What a user compares: time, speed, memory, the metrics that at least one record has, device.

    Raises ValueError for no records.
    """
    if not records:
        raise ValueError("There are no records to show; run a restorer first.")
    columns: list[tuple[str, Callable[[Record], str]]] = [
        ("Restorer", lambda record: record.label),
        ("Time", lambda record: DASH if record.seconds is None else format_seconds(record.seconds)),
        ("Speed", lambda record: DASH if record.ratio is None else f"{record.ratio:.2f}×"),
        ("Peak memory", lambda record: DASH if record.peak is None else format_bytes(record.peak.bytes)),
    ]
    columns.extend((heading(spec, records), _cell(spec)) for spec in shown_metrics(records))
    columns.append(("Device", lambda record: f"{record.device}, {record.dtype}" if record.device else DASH))
    return Table(
        header=tuple(heading for heading, _ in columns),
        rows=tuple(tuple(cell(record) for _, cell in columns) for record in records),
        notes=notes(records),
    )


def _cell(spec: MetricSpec) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        value = record.scores.values.get(spec.name)
        return DASH if value is None else f"{value:.{spec.digits}f}"

    return cell


def heading(spec: MetricSpec, records: Sequence[Record]) -> str:
    """The metric's heading, for LPIPS with the trunk: figures of different trunks cannot be compared."""
    if spec.name != "lpips":
        return spec.heading
    nets = dict.fromkeys(LPIPS_LABELS[net] for record in records if (net := record.scores.lpips_net) is not None)
    return spec.heading.replace(spec.label, f"{spec.label} ({', '.join(nets)})") if nets else spec.heading


def shown_metrics(records: Sequence[Record]) -> list[MetricSpec]:
    """The metrics that at least one record has, in the registry's order."""
    return [spec for spec in METRICS.values() if any(spec.name in record.scores.values for record in records)]


def notes(records: Sequence[Record]) -> tuple[str, ...]:
    """Why metrics are missing, each reason once; what metrics cannot see; what the columns mean."""
    reasons = dict.fromkeys(reason for record in records for reason in record.scores.missing.values())
    said = list(reasons)
    said.extend(spec.caution for spec in shown_metrics(records) if spec.caution)
    if any(record.ratio is not None for record in records):
        said.append("Speed is relative to GenDR in the same run.")
    methods = dict.fromkeys(record.peak.method for record in records if record.peak is not None)
    said.extend(f"Peak memory: {method}." for method in methods if method)
    said.extend(f"{record.label}: {note}" for record in records for note in record.notes)
    return tuple(said)


def to_dict(record: Record) -> dict[str, Any]:
    """Every figure of a record, unrounded, with units in the names and without the pictures."""
    peak = record.peak
    return {
        "restorer": record.name,
        "label": record.label,
        "width_px": record.size[0],
        "height_px": record.size[1],
        "seconds": record.seconds,
        "all_seconds": list(record.all_seconds),
        "speed_relative_to_gendr": record.ratio,
        "peak_bytes": None if peak is None else peak.bytes,
        "reserved_bytes": None if peak is None else peak.reserved,
        "peak_method": None if peak is None else peak.method,
        "notes": list(record.notes),
        "scores": dict(record.scores.values),
        "missing_scores": dict(record.scores.missing),
        "lpips_net": record.scores.lpips_net,
        "device": record.device or None,
        "dtype": record.dtype or None,
        "settings": asdict(record.settings),
    }


def to_json(records: Sequence[Record]) -> str:
    """The records as a JSON document with the version that made them."""
    document = {"gendrpix": __version__, "records": [to_dict(record) for record in records]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_json(records: Sequence[Record], path: Path) -> None:
    """Write `to_json` as UTF-8."""
    write_text(path, to_json(records))


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write one line a record, unrounded; one column for every metric that was asked for, empty where missing."""
    asked = [
        name
        for name in METRICS
        if any(name in record.scores.values or name in record.scores.missing for record in records)
    ]
    plain = [
        key
        for key in to_dict(records[0])
        if key not in ("scores", "missing_scores", "all_seconds", "notes", "settings")
    ]
    settings = list(asdict(records[0].settings))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*plain, *asked, *settings])
    for record in records:
        row = to_dict(record)
        scores = [record.scores.values.get(name) for name in asked]
        writer.writerow([*(row[key] for key in plain), *scores, *(row["settings"][key] for key in settings)])
    write_text(path, text.getvalue())

"""A benchmark's figures as JSON, CSV, Markdown and text for the terminal; `gendrpix.bench.plots` draws them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gendrpix import __version__
from gendrpix.bench.cases import BenchResult, Case, Measured, series_label
from gendrpix.bench.plots import plot_growth
from gendrpix.files import csv_text, make_folder, write_text
from gendrpix.report.plots import save_figure
from gendrpix.report.tables import DASH, Table, format_bytes, format_seconds

CLOCK_NAMES = {"wall": "wall time", "cpu": "processor time of all threads"}
METHOD = (
    "Time: median of the counted runs and (fastest to slowest), from the decoded picture, a quarter of the output's "
    "sides, to the restored pixels; no file is read or written.",
    "Speed is relative to GenDR at the same size, dtype and attention in the same run.",
    "Multiply-adds include attention's products; one is 2 FLOP. The ceiling is a matrix product timed in the same run.",
)


def files_in(folder: Path) -> tuple[Path, ...]:
    """Where the JSON, the CSV, the Markdown and the plots of time and of memory go."""
    return tuple(folder / name for name in ("bench.json", "bench.csv", "bench.md", "bench.png", "bench-memory.png"))


def write_reports(result: BenchResult, folder: Path) -> None:
    """Write the figures and, where anything could be timed, the plots."""
    make_folder(folder)
    document, table, text, times, memory = files_in(folder)
    write_text(document, to_json(result))
    write_text(table, to_csv(result))
    write_text(text, to_markdown(result))
    if any(one.seconds is not None for one in result.measured):
        save_figure(plot_growth(result, "seconds"), times)
        save_figure(plot_growth(result, "bytes"), memory)


def to_json(result: BenchResult) -> str:
    """`to_dict` as a document."""
    return json.dumps(to_dict(result), indent=2, ensure_ascii=False) + "\n"


def to_csv(result: BenchResult) -> str:
    """One line a case, unrounded."""
    rows = [_flat(_case_dict(result, one)) for one in result.measured]
    return csv_text([list(rows[0] if rows else []), *(list(row.values()) for row in rows)])


def _flat(case: dict[str, Any]) -> dict[str, Any]:
    """A case without lists: the fastest and the slowest run, the peak's bytes and how they were measured."""
    peak, runs = case.pop("peak") or {}, case.pop("all_seconds")
    fastest, slowest = (min(runs), max(runs)) if runs else (None, None)
    own = {"fastest_seconds": fastest, "slowest_seconds": slowest}
    return case | own | {"peak_bytes": peak.get("bytes"), "peak_method": peak.get("method")}


def to_dict(result: BenchResult) -> dict[str, Any]:
    """Every figure, unrounded, with units in the names."""
    exponents, memory = result.exponents(), result.exponents("bytes")
    return {
        "gendrpix": __version__,
        "weights": result.plan.weights,
        "random_weights": result.plan.random_weights,
        "warmup": result.plan.warmup,
        "repeats": result.plan.repeats,
        "clock": result.plan.clock,
        "speedups": list(result.plan.speedups),
        "environment": result.environment,
        "matrix_product_flop_per_s": result.ceilings,
        "cases": [_case_dict(result, one) for one in result.measured],
        "exponents": [
            {
                **_named(series),
                "seconds_grow_as_pixels_to_the_power": power,
                "peak_bytes_grow_as_pixels_to_the_power": memory.get(series),
            }
            for series, power in exponents.items()
        ],
    }


def _named(case: Case) -> dict[str, Any]:
    names = {"name": case.name, "label": case.label, "dtype": case.dtype}
    return names | {"attention": case.attention, "padcfg": case.padcfg}


def _case_dict(result: BenchResult, one: Measured) -> dict[str, Any]:
    return {
        **_named(one.case),
        "width_px": one.case.width,
        "height_px": one.case.height,
        "seconds": one.seconds,
        "all_seconds": list(one.all_seconds),
        "megapixels_per_s": one.megapixels_per_s,
        "speed_relative_to_gendr": result.ratio(one),
        "peak": None if one.peak is None else asdict(one.peak),
        "parameters": one.parameters,
        "multiply_adds": one.macs,
        "attention_multiply_adds": one.attention_macs,
        "flop_per_s": one.flops,
        "share_of_matrix_product": result.share(one),
        "reason": one.reason or None,
    }


# Tables ------------------------------------------------------------------------------------------------------------


def about(result: BenchResult) -> str:
    """One sentence: weights, device, versions, ceilings."""
    plan, place = result.plan, dict(result.environment)
    weights = f"RANDOM weights of the geometry {plan.weights}" if plan.random_weights else f"weights {plan.weights}"
    ceilings = ", ".join(f"{flops / 1e9:.4g} GFLOP/s in {name}" for name, flops in result.ceilings.items())
    versions = ", ".join(f"{key} {place[key]}" for key in ("python", "torch", "cuda", "driver") if place.get(key))
    ways = ", ".join(plan.speedups) or "none"
    runs = f"{plan.warmup} warm-up and {plan.repeats} counted runs a case, {CLOCK_NAMES[plan.clock]}; speed-ups: {ways}"
    device = f"{place['device']}, {place['processor']}"
    return f"gendrpix {__version__}, {weights}; {device}; {versions}; {runs}; a matrix product reaches {ceilings}."


def to_table(result: BenchResult) -> Table:
    """One row a case that was measured; the reasons of the others in the notes."""
    header = ("Restorer", "Output", "Numbers", "Attention", "PadCFG", "Time", "Spread", "MP/s", "Speed", "Peak memory")
    rows = [_row(result, one) for one in result.measured if one.seconds is not None]
    missing = dict.fromkeys(f"Not measured: {_where(one)}: {one.reason}" for one in result.measured if one.reason)
    methods = dict.fromkeys(one.peak.method for one in result.measured if one.peak is not None)
    notes = (*METHOD, *(f"Peak memory: {method}." for method in methods if method), *missing)
    return Table(header=(*header, "Mult-adds", "GFLOP/s", "Of ceiling"), rows=tuple(rows), notes=notes)


def _row(result: BenchResult, one: Measured) -> tuple[str, ...]:
    case, ratio, share = one.case, result.ratio(one), result.share(one)
    assert one.seconds is not None and one.peak is not None
    return (
        case.label,
        f"{case.width} × {case.height}",
        case.dtype,
        case.attention or DASH,
        case.padcfg or DASH,
        format_seconds(one.seconds),
        f"{format_seconds(min(one.all_seconds))} to {format_seconds(max(one.all_seconds))}",
        f"{one.megapixels_per_s:.3g}",
        DASH if ratio is None else f"{ratio:.2f}×",
        format_bytes(one.peak.bytes),
        DASH if one.macs is None else f"{one.macs / 1e9:.4g} G",
        DASH if one.flops is None else f"{one.flops / 1e9:.4g}",
        DASH if share is None else f"{share:.0%}",
    )


def _where(one: Measured) -> str:
    """The case, without its size where the reason is the same at every size: a peer that cannot be built."""
    return one.case.label if one.case.attention is None else series_label(one.case) + f", {one.case.width} px"


def to_text(result: BenchResult) -> str:
    """For the terminal."""
    powers = [f"{series_label(series)}: pixels ^ {power:.2f}" for series, power in result.exponents().items()]
    fitted = ["", "Time grows as", *powers] if powers else []
    return "\n".join([about(result), "", to_table(result).to_text(), *fitted])


def to_markdown(result: BenchResult) -> str:
    """A page: what was run, the table, the exponents, the notes."""
    table = to_table(result)
    parts = ["# Benchmark", about(result)]
    if result.plan.random_weights:
        parts.append("**The weights are random: only times, memory and counts mean anything here.**")
    parts.append(table.to_markdown())
    if exponents := result.exponents():
        rows = tuple((series_label(series), f"{power:.2f}") for series, power in exponents.items())
        parts.append(Table(header=("Time grows as pixels to the power", "Power"), rows=rows).to_markdown())
    parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(parts) + "\n"

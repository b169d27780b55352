"""A benchmark's figures as JSON, Markdown, text for the terminal, and a plot of time against pixels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendrpix import __version__
from gendrpix.bench import BenchResult, Case, Measured
from gendrpix.plots import save_figure
from gendrpix.report import DASH, Table, format_bytes, format_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHOD = (
    "Time: median of the counted runs and (fastest to slowest), from the decoded picture, a quarter of the output's "
    "sides, to the restored pixels; no file is read or written.",
    "Speed is relative to GenDR at the same size, dtype and attention in the same run.",
    "Multiply-adds include attention's products; one is 2 FLOP. The ceiling is a matrix product timed in the same run.",
)


def files_in(folder: Path) -> tuple[Path, Path, Path]:
    """Where the JSON, the Markdown and the plot go."""
    return folder / "bench.json", folder / "bench.md", folder / "bench.png"


def write_reports(result: BenchResult, folder: Path) -> None:
    """Write bench.json, bench.md and, where anything could be timed, bench.png."""
    folder.mkdir(parents=True, exist_ok=True)
    document, text, plot = files_in(folder)
    document.write_text(json.dumps(to_dict(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text.write_text(to_markdown(result), encoding="utf-8")
    if any(one.seconds is not None for one in result.measured):
        save_figure(plot_times(result), plot)


def to_dict(result: BenchResult) -> dict[str, Any]:
    """Every figure, unrounded, with units in the names."""
    exponents = result.exponents()
    return {
        "gendrpix": __version__,
        "weights": result.plan.weights,
        "random_weights": result.plan.random_weights,
        "warmup": result.plan.warmup,
        "repeats": result.plan.repeats,
        "environment": result.environment,
        "matrix_product_flop_per_s": result.ceilings,
        "cases": [_case_dict(result, one) for one in result.measured],
        "exponents": [
            {**_named(series), "seconds_grow_as_pixels_to_the_power": power} for series, power in exponents.items()
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
    runs = f"{plan.warmup} warm-up and {plan.repeats} counted runs a case"
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


def series_label(case: Case) -> str:
    """A case without its size: "GenDR-Pix, float32, auto, batched"."""
    return ", ".join(part for part in (case.label, case.dtype, case.attention, case.padcfg) if part)


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


# The plot ----------------------------------------------------------------------------------------------------------


def plot_times(result: BenchResult) -> Figure:
    """Seconds against output megapixels, both logarithmic, one line a series, its exponent in the legend.

    Drawn without pyplot, so that no global state is touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    axes = figure.add_subplot()
    exponents = result.exponents()
    for series in dict.fromkeys(one.case.series for one in result.measured):
        points = sorted(
            (one.case.width * one.case.height / 1e6, one.seconds)
            for one in result.measured
            if one.case.series == series and one.seconds is not None
        )
        if not points:
            continue
        power = f" (power {exponents[series]:.2f})" if series in exponents else ""
        style = "--" if series.attention is None else "-"
        axes.plot(*zip(*points, strict=True), style, marker="o", label=series_label(series) + power)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:.2g}")
    axes.set_xlabel("output, megapixels")
    random = ", RANDOM weights" if result.plan.random_weights else ""
    axes.set_ylabel("seconds a picture")
    axes.set_title(f"{result.environment['device']}, {result.plan.weights}{random}", fontsize="medium")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize="x-small", frameon=False)
    return figure

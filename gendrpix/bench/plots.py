"""A benchmark's figures drawn: seconds or memory against pixels, both logarithmic, with the paper's for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from gendrpix.bench.cases import BenchResult, Case, Quantity, series_label
from gendrpix.specs import CHOICE_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_PIXELS = 2880 * 2880
"""What the paper calls 4K."""
PAPER: Mapping[str, Mapping[Quantity, float]] = MappingProxyType(
    {
        "gendr": {"seconds": 4.92, "bytes": 20.75e9},
        "gendr-adc": {"seconds": 2.69, "bytes": 17.75e9},
        "gendr-pix": {"seconds": 1.75, "bytes": 8.01e9},
        "gendr-pix*": {"seconds": 0.87, "bytes": 5.03e9},
    }
)
"""Time and memory on an A100 at full size (arXiv 2602.10630)."""
PAPER_LABEL = "× the paper's: A100, full-size networks, 2880 × 2880"
AXES: Mapping[Quantity, tuple[str, float]] = MappingProxyType(
    {"seconds": ("seconds a picture", 1.0), "bytes": ("peak memory, MB", 1e6)}
)
"""Label of the vertical axis, and its unit."""


def plot_growth(result: BenchResult, quantity: Quantity, *, paper: bool = False) -> Figure:
    """A line a series against the output's megapixels, its fitted power in the legend.

    paper: also the paper's figures of the restorers that were measured, as crosses of their colours.
    Drawn without pyplot, so that no global state is touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    label, unit = AXES[quantity]
    exponents = result.exponents(quantity)
    for series in dict.fromkeys(one.case.series for one in result.measured):
        points = [(pixels / 1e6, value / unit) for pixels, value in sorted(result.points(quantity).get(series, []))]
        if points:
            power = f" (power {exponents[series]:.2f})" if series in exponents else ""
            axes.plot(
                *zip(*points, strict=True),
                "--" if series.attention is None else "-",
                color=color_of(series),
                marker="o",
                label=series_label(series) + power,
            )
    if paper:
        mark_paper(axes, result, quantity, unit)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:.2g}" if len(result.plan.cases) < 20 and not paper else "")
    axes.set_xlabel("output, megapixels")
    axes.set_ylabel(label)
    random = ", RANDOM weights" if result.plan.random_weights else ""
    axes.set_title(f"{result.environment['device']}, {result.plan.weights}{random}", fontsize="medium")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    return figure


def mark_paper(axes: Axes, result: BenchResult, quantity: Quantity, unit: float) -> None:
    """Crosses at the paper's figures; one line in the legend says what they are."""
    for name in dict.fromkeys(one.case.name for one in result.measured):
        if name in PAPER:
            case = next(one.case for one in result.measured if one.case.name == name)
            point = (PAPER_PIXELS / 1e6, PAPER[name][quantity] / unit)
            axes.plot(*point, "x", color=color_of(case), markersize=9, markeredgewidth=2.5)
    axes.plot([], [], " ", label=PAPER_LABEL)


def color_of(case: Case) -> str:
    """One of matplotlib's colours for each restorer; the peers share those that follow."""
    names = list(CHOICE_LABELS)
    return f"C{names.index(case.name)}" if case.name in names else f"C{len(names) + len(case.name) % 4}"

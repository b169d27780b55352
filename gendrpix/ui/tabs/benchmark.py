"""The benchmark: time and peak memory of each restorer on this device, against the size of the result."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.runs.benchmark import Benching
from gendrpix.ui.widgets.checks import check_filled
from gendrpix.ui.widgets.errors import user_errors
from gendrpix.ui.widgets.run_buttons import RunButtons

if TYPE_CHECKING:
    from gendrpix.bench.cases import BenchResult

SIZES = (256, 512, 768, 1024, 1536, 2048, 3072, 4096)
INTRO = (
    "How long does each restorer take here, and how much memory, as pictures grow? Each case is warmed up once, then "
    "timed, from the decoded picture to the restored pixels; what would not fit into the free memory is refused. "
    "On a CPU the large sizes take minutes."
)
PAPER_LINE = (
    "Crosses: the paper's figures, measured on an A100 with networks of 866 million parameters. They show the order of "
    "the restorers there, and are no target for this device or for small weights."
)
Updates = dict[Any, Any]


class BenchmarkTab:
    """Widgets, wiring and handlers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.session = gr.State(None)
        gr.Markdown(INTRO, elem_classes="intro")
        with gr.Row(elem_id="benchmark", elem_classes="two"):
            with gr.Column(min_width=300):
                self._build_inputs()
            with gr.Column(min_width=300):
                self._build_views()
        self._wire()

    def _build_inputs(self) -> None:
        self.restorers = gr.CheckboxGroup(
            choices=[(label, name) for name, label in CHOICE_LABELS.items()],
            value=list(CHOICE_LABELS),
            label="Restorers",
            elem_id="bench-restorers",
        )
        self.sizes = gr.CheckboxGroup(
            [str(size) for size in SIZES],
            value=["256", "512"],
            label="Result, pixels a side",
            info="Two sizes or more give the power with which time and memory grow.",
            elem_id="bench-sizes",
        )
        self.repeats = gr.Slider(
            1,
            7,
            value=3,
            step=2,
            label="Runs of each",
            info="The median counts.",
            buttons=[],
            elem_id="bench-repeats",
        )
        self.buttons = RunButtons("Measure", "Measuring …", run_id="bench-run", cancel_id="bench-cancel")

    def _build_views(self) -> None:
        self.status = gr.Markdown("Press Measure to begin.", elem_classes="hint", elem_id="bench-status", min_height=24)
        self.table = gr.Markdown("", visible=False, elem_id="bench-table", elem_classes="scores")
        self.notes = gr.Markdown("", visible=False, elem_id="bench-notes", elem_classes="hint")
        with gr.Row():
            self.times = gr.Plot(label="Time", show_label=False, visible=False, elem_id="bench-times")
            self.memory = gr.Plot(label="Peak memory", show_label=False, visible=False, elem_id="bench-memory")
        self.paper = gr.Markdown(PAPER_LINE, visible=False, elem_classes="hint")
        with gr.Row():
            self.csv = gr.DownloadButton("CSV", visible=False, size="md", elem_id="bench-csv")
            self.json = gr.DownloadButton("JSON", visible=False, size="md", elem_id="bench-json")

    def _wire(self) -> None:
        """The run has no concurrency id of its own: its cases take turns with other visitors' computations."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        figures = [self.table, self.notes, self.times, self.memory, self.paper, self.csv, self.json]
        views = [self.session, *self.buttons.widgets, self.status, *figures]
        asked = [self.restorers, self.sizes, self.repeats]
        self.buttons.run.click(self.run_benchmark, asked, views, **private)

    # Handlers ------------------------------------------------------------------------------------------------------

    def run_benchmark(self, restorers: list[str], sizes: list[str], repeats: int) -> Iterator[Updates]:
        """Measure case by case, small sizes first."""
        with user_errors():
            if not restorers or not sizes:
                raise ValueError("There is nothing to measure. Tick at least one restorer and one size.")
            check_filled(repeats)
        stop = CancelToken()
        steps = self._run(restorers, sorted(sizes, key=int), repeats, stop)
        yield from self.buttons.guarded(stop, steps, self.ended)

    def _run(
        self, restorers: Sequence[str], sizes: Sequence[str], repeats: int, stop: CancelToken
    ) -> Iterator[Updates]:
        yield {**self.buttons.running(stop), self.session: None, self.status: "Preparing."}
        benching = Benching(self.engine, restorers, sizes, repeats)
        session = stop.kept = Session(benching.result(stop))
        cases = benching.plan.cases
        for number, case in enumerate(cases):
            yield {
                self.session: session,
                self.status: f"{number} of {len(cases)} measured. Now {core.describe_case(case)}.",
            }
            benching.measure_next(stop)
            session.result = replace(session.result, measured=tuple(benching.measured))
            yield self._figures(session)
        yield {**self.buttons.idle(), self.status: f"Done: {self._said(session)}"}

    def ended(self, session: Session | None, how: str) -> Updates:
        """What is said of a run that was cancelled or failed; what was measured stays."""
        kept = "Nothing had been measured." if session is None else f"Kept: {self._said(session)}"
        return {self.status: f"{how} {kept}"}

    # Views ---------------------------------------------------------------------------------------------------------

    def _said(self, session: Session) -> str:
        count = sum(one.seconds is not None for one in session.result.measured)
        return f"{count} case{'s' * (count != 1)}; {core.about(session.result)}"

    def _figures(self, session: Session) -> Updates:
        result = session.result
        table = small_table(core.bench_to_table(result))
        shown = any(one.seconds is not None for one in result.measured)
        document, lines = session.write()
        plots = {
            self.times: gr.update(value=core.plot_growth(result, "seconds", paper=True), visible=True),
            self.memory: gr.update(value=core.plot_growth(result, "bytes", paper=True), visible=True),
            self.paper: gr.update(visible=True),
        }
        return {
            self.table: gr.update(value=table.to_markdown(), visible=shown),
            self.notes: gr.update(value="\n".join(f"- {note}" for note in table.notes), visible=True),
            **(plots if shown else {}),
            self.csv: gr.update(value=str(lines), visible=True),
            self.json: gr.update(value=str(document), visible=True),
        }


class Session:
    """A run's figures, and a folder for its files that is removed with this object."""

    def __init__(self, result: BenchResult) -> None:
        self.result = result
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-bench-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def write(self) -> tuple[Path, Path]:
        """The figures so far as (JSON, CSV)."""
        document, table = self.folder / "benchmark.json", self.folder / "benchmark.csv"
        document.write_text(core.bench_to_json(self.result), encoding="utf-8")
        table.write_text(core.to_csv(self.result), encoding="utf-8")
        return document, table


def small_table(table: Any) -> Any:
    """The report's table without what is the same in every line here, or only fits a wide page."""
    kept = [i for i, heading in enumerate(table.header) if heading not in ("Numbers", "Attention", "PadCFG")]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return replace(table, header=tuple(table.header[i] for i in kept), rows=rows)

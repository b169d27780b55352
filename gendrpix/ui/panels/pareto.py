"""This session's runs as time against quality: what is worth its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from gendrpix.comparison.comparison import Record

HINT = (
    "All runs of this session on the same photo at the same size. One is worth its time if none is faster and better."
)
Updates = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One restorer's run, as the plot needs it."""

    subject: str
    """The photo and the size of the result: only runs of one subject can be compared."""
    label: str
    seconds: float
    values: dict[str, float]

    @classmethod
    def of(cls, record: Record, photo_name: str) -> Run:
        """A record with a time."""
        assert record.seconds is not None
        settings, (width, height) = record.settings, record.size
        words = [record.label]
        if record.name == "gendr-pix" and settings.guidance is not None:
            words.append(f"ω {settings.guidance:g}" + (" plain" if settings.plain_cfg else ""))
            if not settings.plain_cfg:
                words.append("{},{} / {},{}".format(*settings.pos_pad, *settings.neg_pad))
        words += [settings.color_fix] if settings.color_fix != "none" else []
        return cls(
            subject=f"{photo_name}, {width} × {height}",
            label=" ".join(words),
            seconds=record.seconds,
            values=dict(record.scores.values),
        )


class History:
    """Widgets and handlers; the runs themselves are in the visitor's session."""

    def __init__(self) -> None:
        self.runs = gr.State([])
        with gr.Accordion("Time against quality", open=False, visible=False, elem_id="history") as self.panel:
            gr.Markdown(HINT, elem_classes="hint")
            self.metric = gr.Radio([], label="Quality", elem_id="history-metric")
            self.plot = gr.ScatterPlot(
                x="seconds", y="quality", color="restorer", x_title="Seconds", height=320, elem_id="history-plot"
            )
            self.best = gr.Markdown("", elem_classes="hint", elem_id="history-best")

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` updates."""
        return [self.runs, self.panel, self.metric, self.plot, self.best]

    def shown(self, runs: Sequence[Run], metric: str | None) -> Updates:
        """The plot of the newest subject's runs by `metric`, or by the first one that they have."""
        from gendrpix.metrics.registry import METRICS

        if not runs:
            return {self.panel: gr.update(visible=False)}
        same = [run for run in runs if run.subject == runs[-1].subject]
        names = [name for name in METRICS if any(name in run.values for run in same)]
        if not names:
            return {self.runs: list(runs), self.panel: gr.update(visible=False)}
        metric = metric if metric in names else names[0]
        spec = METRICS[metric]
        drawn = {run.label: run for run in same if metric in run.values}  # of equal settings, the newest
        best = worth_their_time([(run.seconds, run.values[metric]) for run in drawn.values()], spec.higher_is_better)
        said = ", ".join(label.replace("*", "\\*") for label, worth in zip(drawn, best, strict=True) if worth)
        best_line = (
            f"{runs[-1].subject}. Worth their time by {spec.label} alone: **{said}**. One metric is no verdict: look "
            f"at the pictures. {spec.caution}"
        ).strip()
        return {
            self.runs: list(runs),
            self.panel: gr.update(visible=True),
            self.metric: gr.update(choices=[(METRICS[name].label, name) for name in names], value=metric),
            self.plot: gr.update(
                value=as_frame(drawn, metric),
                x_lim=[0, 1.1 * max(run.seconds for run in drawn.values())],
                y_title=f"{spec.heading}, {spec.direction}",
            ),
            self.best: best_line,
        }


def as_frame(runs: dict[str, Run], metric: str) -> Any:
    """The runs as the plot takes them."""
    import pandas

    rows = [{"restorer": label, "seconds": run.seconds, "quality": run.values[metric]} for label, run in runs.items()]
    return pandas.DataFrame(rows)


def worth_their_time(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[bool]:
    """For each (seconds, quality) whether no other is at least as good in both and better in one (Pareto's front)."""
    costs = [(seconds, -value if higher_is_better else value) for seconds, value in points]
    return [not any(a <= c and b <= d and (a, b) != (c, d) for a, b in costs) for c, d in costs]

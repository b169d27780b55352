"""Time against quality of a session's runs."""

import gradio as gr
from hypothesis import given
from hypothesis import strategies as st

from gendrpix.ui.panels.pareto import History, Run, worth_their_time

few = st.integers(0, 4).map(float)


def one(label: str, seconds: float, subject: str = "a.png, 64 × 64", **values: float) -> Run:
    return Run(subject=subject, label=label, seconds=seconds, values=values)


@given(points=st.lists(st.tuples(few, few), min_size=1, max_size=8), higher=st.booleans())
def test_the_front_holds_what_nothing_beats(points: list, higher: bool) -> None:
    worth = worth_their_time(points, higher)
    assert any(worth)
    for (seconds, value), kept in zip(points, worth, strict=True):
        better = [
            (s <= seconds and (v >= value if higher else v <= value)) and (s, v) != (seconds, value) for s, v in points
        ]
        assert kept is not any(better)


def test_only_runs_of_the_newest_photo_are_compared() -> None:
    with gr.Blocks():
        history = History()
    runs = [
        one("GenDR", 2.0, "b.png, 64 × 64", piqe=10.0),
        one("GenDR", 2.0, piqe=30.0, grid=1.0),
        one("GenDR-Pix*", 1.0, piqe=99.0),
        one("GenDR-Pix*", 1.0, piqe=40.0),  # the same again: the newest counts
        one("GenDR-Adc", 3.0, piqe=50.0),
    ]
    shown = history.shown(runs, None)
    frame = shown[history.plot]["value"]
    assert list(frame["restorer"]) == ["GenDR", "GenDR-Pix*", "GenDR-Adc"]
    assert list(frame["quality"]) == [30.0, 40.0, 50.0]
    assert shown[history.best].count("Worth their time by PIQE alone: **GenDR, GenDR-Pix\\***.") == 1
    assert list(history.shown(runs, "grid")[history.plot]["value"]["restorer"]) == ["GenDR"]
    assert history.shown([], None)[history.panel]["visible"] is False

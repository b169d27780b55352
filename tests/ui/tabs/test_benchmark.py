"""The benchmark tab's handlers as functions, on tiny random weights. No assertion on seconds."""

import csv
import json

import gradio as gr
import pytest

from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.tabs.benchmark import BenchmarkTab
from tests.bench import test_bench
from tests.helpers.models import save_tiny_family

tiny_known = test_bench.tiny_known  # a fixture


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTab:
    with gr.Blocks():
        return BenchmarkTab(Engine(str(save_tiny_family(tmp_path_factory.mktemp("weights")))))


@pytest.fixture(autouse=True)
def known(tiny_known: None) -> None:
    """The tiny family's work can be counted."""


def test_cases_are_shown_as_they_end_and_can_be_downloaded(tab: BenchmarkTab) -> None:
    steps = list(tab.run_benchmark(["gendr-pix*", "gendr"], ["64", "32"], 1))
    shown = [step for step in steps if tab.table in step]
    assert len(shown) == 4 and shown[0][tab.table]["value"].count("\n") == 2
    table = shown[-1][tab.table]["value"]
    assert "GenDR-Pix\\*" in table and "64 × 64" in table and "Attention" not in table and "Speed" in table
    assert steps[-1][tab.status].startswith("Done: 4 cases; gendrpix ") and steps[-1][tab.buttons.run]["interactive"]
    assert "Now GenDR, 64 x 64" in next(step[tab.status] for step in steps if "1 of 4" in str(step.get(tab.status)))
    assert [axis.get_ylabel() for axis in shown[-1][tab.times]["value"].axes] == ["seconds a picture"]
    assert [axis.get_ylabel() for axis in shown[-1][tab.memory]["value"].axes] == ["peak memory, MB"]
    with open(shown[-1][tab.csv]["value"]) as file:
        assert [line["width_px"] for line in csv.DictReader(file)] == ["32", "64", "32", "64"]
    with open(shown[-1][tab.json]["value"]) as file:
        assert len(json.load(file)["exponents"]) == 2


def test_what_cannot_fit_is_refused_with_the_reason(tab: BenchmarkTab, monkeypatch) -> None:
    monkeypatch.setattr("gendrpix.bench.run.available_bytes", lambda device: 10_000_000)
    last = [step for step in tab.run_benchmark(["gendr-pix*"], ["1024"], 1) if tab.notes in step][-1]
    assert "10 MB are free; choose a smaller size." in last[tab.notes]["value"]
    assert not last[tab.table]["visible"] and tab.times not in last


def test_cancel_keeps_what_was_measured(tab: BenchmarkTab) -> None:
    stream = tab.run_benchmark(["gendr-pix*"], ["32", "64", "128"], 1)
    stop = next(stream)[tab.buttons.stop]
    session = next(stream)[tab.session]
    next(stream)
    tab.buttons.press_cancel(stop)
    views = list(stream)[-1]
    assert views[tab.status].startswith("Cancelled. Kept: 1 case;") and views[tab.buttons.run]["interactive"]
    assert len(session.result.measured) == 1
    assert tab.ended(None, "Cancelled.")[tab.status] == "Cancelled. Nothing had been measured."


def test_nothing_to_measure_is_a_sentence(tab: BenchmarkTab) -> None:
    for names, sizes in (([], ["32"]), (["gendr"], [])):
        with pytest.raises(gr.Error, match="Tick at least one restorer and one size"):
            list(tab.run_benchmark(names, sizes, 1))
    with pytest.raises(gr.Error, match="fill in the empty box"):
        list(tab.run_benchmark(["gendr"], ["32"], None))

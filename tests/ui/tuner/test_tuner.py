"""The tuner's and the playground's handlers as functions, on tiny random weights."""

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from gendrpix.report.maps import cell_box
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.tabs.playground import PlaygroundTab
from gendrpix.ui.tuner.tab import TunerTab
from gendrpix.ui.widgets.inputs import example_photos
from tests.helpers.models import save_tiny_family

GUIDANCE = ("Paper", 1.5, 4, 4, 3, 3)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(str(save_tiny_family(tmp_path_factory.mktemp("weights"))))


@pytest.fixture(scope="module")
def tab(engine: Engine) -> TunerTab:
    with gr.Blocks():
        return TunerTab(engine)


@pytest.fixture(scope="module")
def play(engine: Engine) -> PlaygroundTab:
    with gr.Blocks():
        return PlaygroundTab(engine)


CAT = {"path": str(next(path for path in example_photos() if path.stem == "cat"))}
REGION = (CAT, 50, 50, 96, 2.0)


def test_a_sweep_from_start_to_click(tab: TunerTab) -> None:
    tuning = tab.tuning
    steps = list(tuning.run_sweep(*REGION, *GUIDANCE, "positive", "grid"))
    swept = next(step[tab.swept] for step in steps if tab.swept in step)
    assert len(swept.values) == 64 and swept.best == min(swept.values, key=lambda offset: swept.values[offset])
    assert "Best: rows" in steps[-1][tab.progress] and "64 offsets in" in steps[-1][tab.progress]
    assert list(steps[-1][tab.curve]["value"]["omega"])[:3] == [0.0, 0.25, 0.5]
    space = tuning.spaces.find(swept.region)
    made = space.bank.predicted
    assert made == 66  # 64, the fixed one, and the unpadded one of the crops
    again = list(tuning.run_sweep(*REGION, *GUIDANCE, "positive", "grid"))
    assert "64 offsets in" not in again[-1][tab.progress] and space.bank.predicted == made
    left, top, *_ = cell_box((2, 5))
    taken = tuning.take_cell(swept, 1.5, 4, 4, 3, 3, SimpleNamespace(index=[left + 4, top + 4]))
    assert taken == ["Own", 1.5, 2, 5, 3, 3]
    assert tuning.take_best(swept, 1.5, 4, 4, 3, 3) == ["Own", 1.5, *swept.best, 3, 3]
    assert steps[-1][tab.take_best]["visible"]
    shown = tuning.show(*REGION, *taken, swept)
    assert shown[tab.heat]["visible"] and shown[tab.take_best]["visible"] and shown[tab.crops]["value"].width > 800
    assert space.bank.predicted == made
    other = tuning.show(CAT, 0, 0, 96, 2.0, *taken, swept)
    assert other[tab.heat]["visible"] is False
    assert tuning.take_cell(None, 1.5, 4, 4, 3, 3, SimpleNamespace(index=[99, 99])) == [gr.skip()] * 6


def test_moving_omega_predicts_nothing(tab: TunerTab) -> None:
    tuning = tab.tuning
    results = [tuning.show(*REGION, "Paper", omega, 4, 4, 3, 3, None) for omega in (1.5, 0.5, 2.5)]
    pictures = [result[tab.slider]["value"][1].tobytes() for result in results]
    assert len(set(pictures)) == 3
    bank = next(reversed(tuning.spaces._kept.values())).bank
    before = bank.predicted
    tuning.show(*REGION, "Paper", 2.0, 4, 4, 3, 3, None)
    assert bank.predicted == before
    assert "Grid score" in results[0][tab.figures] and results[0][tab.slider]["value"][0].size == (96, 96)


def test_a_cancelled_sweep_goes_on_where_it_was(tab: TunerTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.ui.tuner.handlers.SHOWN_EVERY_S", 0.0)
    tuning, args = tab.tuning, (CAT, 20, 20, 64, 2.0, *GUIDANCE, "negative", "grid")
    stream = tuning.run_sweep(*args)
    stop = next(stream)[tab.buttons.stop]
    for _ in range(3):
        next(stream)
    assert tab.buttons.press_cancel(stop)["value"] == "Cancelling …"
    [said] = stream
    assert said[tab.progress] == "Cancelled. What was scored is kept." and said[tab.buttons.run]["interactive"]
    steps = list(tuning.run_sweep(*args))
    assert sum(tab.heat in step for step in steps) == 61 + 1  # 61 offsets were missing


def test_settings_as_a_file(tab: TunerTab, tmp_path: Path) -> None:
    drawing, save, *states = tab.tuning.describe("Own", 0.8, 1, 2, 6, 7)
    assert "1 rows above" in drawing and [state["interactive"] for state in states] == [True] * 5
    document = Path(save["value"]).read_bytes()
    assert tab.tuning.load(document) == ["Own", 0.8, 1, 2, 6, 7]
    assert [state["interactive"] for state in tab.tuning.describe("None (Pix*)", *GUIDANCE[1:])[2:]] == [False] * 5
    assert tab.tuning.take_preset("Paper") == [1.5, 4, 4, 3, 3]
    wrong = json.dumps({**json.loads(document), "guidance": 99}).encode()
    with pytest.raises(gr.Error, match="guidance is 99; expected a number from 0 to 3"):
        tab.tuning.load(wrong)


def test_refusals_are_sentences(tab: TunerTab) -> None:
    with pytest.raises(gr.Error, match="no photo yet"):
        list(tab.tuning.run_sweep(None, *REGION[1:], *GUIDANCE, "positive", "grid"))
    with pytest.raises(gr.Error, match="has no say"):
        list(tab.tuning.run_sweep(*REGION, "Paper", 1.0, 4, 4, 3, 3, "negative", "grid"))
    assert tab.tuning.show(None, *REGION[1:], *GUIDANCE, None)[tab.figures] == "Choose a photo to begin."


def test_a_click_in_the_photo_is_its_place(tab: TunerTab) -> None:
    assert tab.tuning.take_place(CAT, SimpleNamespace(index=[32, 96])) == [25, 75]


def psnr_of(status: str) -> float:
    return float(status.split("PSNR-Y **")[1].split(" dB")[0])


def test_playground_measures_against_the_clean_picture(play: PlaygroundTab, tmp_path: Path) -> None:
    path = tmp_path / "clean.png"
    Image.open(CAT["path"]).convert("RGB").resize((67, 66)).save(path)
    preview = play.preview({"path": str(path)}, 1.0, 2, 1, 80, 3)
    assert preview[play.status].startswith("66 × 66 pixels, degraded to 33 × 33. Enlarged again: PSNR-Y **")
    worse = play.preview({"path": str(path)}, 1.0, 2, 10, 20, 3)[play.status]
    assert psnr_of(worse) < psnr_of(preview[play.status]) - 2
    clean, degraded = preview[play.slider]["value"]
    assert clean.size == degraded.size == (66, 66)
    steps = list(play.restore_clean({"path": str(path)}, 1.0, 2, 1, 80, 3, ["gendr-pix*"]))
    table = [step for step in steps if play.table in step][-1][play.table]["value"]
    assert "PSNR-Y" in table and "GenDR-Pix" in table and "Time" not in table
    assert steps[-1][play.buttons.run]["interactive"]
    with pytest.raises(gr.Error, match="no picture yet"):
        list(play.restore_clean(None, 1.0, 2, 1, 80, 3, ["gendr"]))
    with pytest.raises(gr.Error, match="A number is missing"):
        play.preview(CAT, 1.0, 2, None, 80, 3)
    with pytest.raises(gr.Error, match="No restorer"):
        list(play.restore_clean(CAT, 1.0, 2, 1, 80, 3, []))

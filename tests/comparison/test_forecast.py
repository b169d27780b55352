"""What is told before a run: time from what was measured, memory, and what would fit where something does not."""

from dataclasses import replace

import pytest
import torch

from gendrpix.comparison.comparison import Measurement
from gendrpix.comparison.forecast import Rates, check_fits, forecast, in_a_line, propose
from gendrpix.metrics.profiling import Runs
from gendrpix.restore.planner import PlanError, predict_peak
from gendrpix.settings.restoration import RestoreSettings
from tests.helpers.models import tiny_pipeline
from tests.helpers.pictures import assert_sentence

SETTINGS = RestoreSettings(scale=4.0, guidance=1.5)
FAST, GUIDED = "gendr-pix*", "gendr-pix"


def took(name: str, side: int, seconds: float | None, **changes: object) -> Measurement:
    settings = SETTINGS.for_choice(name)
    made = Measurement(name=name, label=name, size=(side, side), seconds=seconds, settings=settings)
    return replace(made, **changes)


@pytest.fixture(scope="module")
def pipelines() -> dict:
    pix = tiny_pipeline("gendr-pix")
    return {"gendr": tiny_pipeline("gendr"), GUIDED: pix, FAST: pix}


def test_time_grows_with_the_pixels_from_the_nearest_size_measured() -> None:
    rates = Rates()
    assert rates.seconds(FAST, 64, 64) is None
    rates.learn(took(FAST, 64, 1.0))
    assert rates.seconds(FAST, 128, 128) == pytest.approx(4.0)
    rates.learn(took(FAST, 256, 20.0))
    assert rates.seconds(FAST, 128, 256) == pytest.approx(10.0)
    assert rates.seconds(FAST, 64, 72) == pytest.approx(72 / 64)
    assert rates.seconds("gendr", 64, 64) is None


def test_guided_runs_count_the_padded_picture() -> None:
    rates = Rates()
    rates.learn(took(GUIDED, 56, 1.0))
    assert rates.seconds(GUIDED, 120, 120) == pytest.approx(4.0)


def test_only_fresh_warm_times_are_learnt() -> None:
    rates = Rates()
    rates.learn(took(FAST, 64, 1.0, runs=Runs(warmup=0)))
    rates.learn(took(FAST, 64, None))
    assert rates.seconds(FAST, 64, 64) is None


def test_line_names_time_and_memory(pipelines: dict) -> None:
    rates = Rates()
    device = torch.device("cpu")
    found = forecast([GUIDED, FAST], 64, 64, SETTINGS, pipelines.__getitem__, rates)
    assert "not known before the first run" in in_a_line(found, Runs(), device)
    for name in (GUIDED, FAST):
        rates.learn(took(name, 64, 0.5))
    found = forecast([GUIDED, FAST], 64, 64, SETTINGS, pipelines.__getitem__, rates)
    line = in_a_line(found, Runs(repeats=3), device)
    assert "about **4.00 s** for 4 runs of each (GenDR-Pix 500 ms, GenDR-Pix* 500 ms a run)" in line
    most = max(one.plan.predicted_bytes for one in found)
    assert most == predict_peak(pipelines[GUIDED], 64, 64, guided=True)
    assert f"at most about **{most / 1e6:.0f} MB**" in line


def test_what_cannot_fit_is_refused_with_what_would(pipelines: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 1024
    free = int(1.2 * predict_peak(pipelines[FAST], side, side))
    monkeypatch.setattr("gendrpix.restore.planner.available_bytes", lambda device: free)
    monkeypatch.setattr("gendrpix.comparison.forecast.available_bytes", lambda device: free)
    [whole] = forecast([FAST], side, side, SETTINGS, pipelines.__getitem__, Rates())
    assert whole.plan.tile_px is None
    tiled = forecast([GUIDED], side, side, SETTINGS, pipelines.__getitem__, Rates())
    assert tiled[0].plan.tile_px is not None
    assert f"GenDR-Pix in tiles of {tiled[0].plan.tile_px}" in in_a_line(tiled, Runs(), torch.device("cpu"))

    free = int(predict_peak(pipelines[FAST], 128, 128, tile_px=64))  # nothing of the full size, not even in tiles
    with pytest.raises(PlanError) as caught:
        check_fits([FAST], side, side, SETTINGS, pipelines.__getitem__)
    assert_sentence(str(caught.value).split(" Instead")[0])
    assert str(caught.value).startswith("GenDR-Pix*: This needs about")
    offered = propose([FAST], side, side, SETTINGS, pipelines.__getitem__)
    if offered:  # a scale that is offered does fit
        scale = float(offered.rstrip(".").split()[-1])
        assert scale < SETTINGS.scale
        check_fits([FAST], int(side * scale / 4), int(side * scale / 4), SETTINGS, pipelines.__getitem__)


def test_a_restorer_that_fits_is_proposed(pipelines: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    able = FAST

    def refuse(pipeline: object, height: int, width: int, *, guided: bool, **_: object) -> None:
        if guided and height > 32:
            raise PlanError("Too much.")

    monkeypatch.setattr("gendrpix.comparison.forecast.choose_plan", refuse)
    said = propose([GUIDED, able], 64, 64, SETTINGS, pipelines.__getitem__)
    assert said == "Instead: GenDR-Pix* would fit as asked, or all chosen would fit at scale 2."

"""What the server loads before the first visitor's run, and that it never computes while a run is timed."""

import threading
import time
from pathlib import Path

import pytest

from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.engine import warmup
from gendrpix.ui.engine.engine import Engine
from tests.helpers.models import save_tiny_family


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_family(tmp_path_factory.mktemp("weights")))


def test_every_restorer_has_run_and_has_a_rate(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "WARM_PX", 16)
    engine = Engine(weights)
    warmup.load(engine)
    assert all(engine.rates.seconds(name, 64, 64) for name in CHOICE_LABELS)
    assert not bool(engine._line._waiting)


def test_no_step_is_taken_during_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen = Engine("nowhere"), []

    def steps(engine: Engine) -> list:
        return [lambda: seen.append(bool(engine._line._waiting))] * 3

    monkeypatch.setattr(warmup, "steps", steps)
    with engine.turn():
        thread = warmup.load_in_background(engine)
        time.sleep(0.3)
        assert seen == []
    thread.join(30)
    assert seen == [True] * 3


def test_a_waiting_run_gets_the_turn_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, begun, order = Engine("nowhere"), threading.Event(), []

    def slow() -> None:
        begun.set()
        time.sleep(0.15)
        order.append("step")

    monkeypatch.setattr(warmup, "steps", lambda engine: [slow] * 20)
    thread = warmup.load_in_background(engine)
    begun.wait(30)
    with engine.turn():
        order.append("run")
    thread.join(60)
    assert order.index("run") < 19


def test_what_cannot_be_loaded_is_left_to_the_first_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warmup.load(Engine(str(tmp_path)))
    assert "could not be loaded ahead of the first run" in caplog.text

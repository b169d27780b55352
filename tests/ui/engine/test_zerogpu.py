"""ZeroGPU with a stand-in for the package `spaces`: what it lends for how long; all can travel there and back."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gendrpix import open_picture
from gendrpix.settings.presets import PRESETS
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Job
from gendrpix.ui.engine.warmup import load
from gendrpix.ui.engine.zerogpu import LONGEST_S, GpuPipeline, lent, seconds_for
from gendrpix.ui.runs.benchmark import Benching
from gendrpix.ui.runs.sweep import Region, Workspaces
from tests.helpers.models import save_tiny_family, tiny_pipeline
from tests.helpers.pictures import photo

Calls = list[tuple[str, int]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A ZeroGPU Space; the name and the seconds of every lent call. As there, arguments and results are pickled."""
    calls: Calls = []

    def travel(value: Any) -> Any:
        return pickle.loads(pickle.dumps(value))

    def gpu(duration: Callable[..., int]) -> Callable[[Callable], Callable]:
        def decorate(function: Callable) -> Callable:
            def call(*args: Any) -> Any:
                calls.append((function.__name__, duration(*args)))
                result = function(*travel(args))
                return map(travel, result) if isinstance(result, Iterator) else travel(result)

            return call

        return decorate

    spaces = ModuleType("spaces")
    spaces.GPU = gpu
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setattr("torch.compile", lambda *a, **k: pytest.fail("nothing is compiled on ZeroGPU"))
    return calls


@pytest.fixture
def family(tmp_path: Path) -> Path:
    return save_tiny_family(tmp_path / "family")


def job(*names: str, guidance: float | None = 1.5) -> Job:
    return Job(picture=open_picture(photo()), names=names, settings=RestoreSettings(scale=2.0, guidance=guidance))


def test_nothing_changes_elsewhere(monkeypatch: pytest.MonkeyPatch, family: Path) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    monkeypatch.setitem(sys.modules, "spaces", None)  # not even imported
    assert lent(seconds_for, seconds_for) is seconds_for
    assert not isinstance(Engine(str(family)).pipeline("gendr-pix"), GpuPipeline)


def test_a_restoration_is_lent_and_gives_the_same_pixels(calls: Calls, family: Path) -> None:
    _, image = Engine(str(family)).restore(job("gendr-pix"))
    assert [name for name, _ in calls] == ["_run"]
    picture = open_picture(photo())
    assert image.tobytes() == tiny_pipeline("gendr-pix")(picture, scale=2.0, guidance=1.5).images[0].tobytes()


def test_a_comparison_is_lent_once_for_all_its_restorers(calls: Calls, family: Path) -> None:
    measured = [line.measurement for line in Engine(str(family)).compare(job("gendr", "gendr-pix*"))]
    assert [one.name for one in measured] == ["input", "gendr", "gendr-pix*"]
    assert [name for name, _ in calls] == ["_compare"]
    assert measured[1].seconds and measured[2].ratio


def test_the_tuners_branches_are_lent(calls: Calls, family: Path, tmp_path: Path) -> None:
    photo(32, 32).save(tmp_path / "photo.png")
    region = Region(photo=tmp_path / "photo.png", across=0.5, down=0.5, side_px=64, scale=2.0)
    space = Workspaces(Engine(str(family))).find(region)
    result = space.result(PRESETS["Paper"])
    assert [name for name, _ in calls] == ["_run_branch"] * 2
    pipeline = tiny_pipeline("gendr-pix")
    expected, _ = pipeline.restore_guided(space.bank.pixels, 1.5, batched=False)
    torch.testing.assert_close(result, expected)


def test_models_are_loaded_and_nothing_is_run_ahead(calls: Calls, family: Path) -> None:
    engine = Engine(str(family))
    load(engine)
    assert engine.loaded and calls == []
    with pytest.raises(ValueError, match="lends its GPU for seconds"):
        Benching(engine, ["gendr"], [64], 1)


def test_seconds_grow_with_the_size_up_to_the_limit() -> None:
    asked = [seconds_for(side**2 / 1e6, 8) for side in (256, 1024, 2048, 8192)]
    assert asked == sorted(set(asked)) and asked[-1] == LONGEST_S and asked[0] < 15

"""Settings of every test: one thread, fixed seeds, no downloads, no photos but its own."""

import os

os.environ.update(HF_HUB_OFFLINE="1", GRADIO_ANALYTICS_ENABLED="False", MPLBACKEND="Agg")  # read on import
os.environ.pop("GENDRPIX_DATA", None)  # each test names its own photos

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from gendrpix import devices
from tests.helpers.guests import SECRET, SETTINGS, Guest
from tests.helpers.models import TINY, save_tiny_family
from tests.helpers.pictures import photo
from tests.helpers.server import AppProcess, running_app
from tests.helpers.stages import make_photos

torch.set_num_threads(1)
devices.cpu_has_bfloat16 = lambda: False  # the automatic dtype is float32 on every machine, so that results compare
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine or this run is not meant for."""
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what libraries draw from


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny family stands in the registry in place of the real ones."""
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {TINY.name: TINY})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small synthetic photos to train on."""
    return make_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """One server for all attacks, with small limits, beside it two files that nobody may read."""
    folder = tmp_path_factory.mktemp("attacked")
    weights = save_tiny_family(folder / "weights")
    (folder / "secret.txt").write_bytes(SECRET)
    photo(30, 20).save(folder / "secret.png")
    with running_app(folder, {**SETTINGS, "GENDRPIX_WEIGHTS": str(weights)}) as app:
        yield app


@pytest.fixture
def app(attacked: AppProcess) -> Iterator[AppProcess]:
    """The attacked server, which is up before the attack and after it."""
    assert attacked.process is not None
    if attacked.process.poll() is not None:  # a test has stopped it
        attacked.start()
    yield attacked
    if attacked.process.poll() is None:
        assert attacked.health()["status"] == "ok"


_sources = (f"127.0.2.{number}" for number in range(1, 250))


@pytest.fixture
def guest(app: AppProcess) -> Guest:
    """A guest from an address of its own, so that no attack uses up another one's rate."""
    return Guest(app, next(_sources))

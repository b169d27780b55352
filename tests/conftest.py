"""Settings of every test: one thread, fixed seeds, no downloads."""

import os

os.environ.update(HF_HUB_OFFLINE="1", GRADIO_ANALYTICS_ENABLED="False", MPLBACKEND="Agg")  # read on import

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from models import TINY
from stages import make_photos

from gendrpix import devices

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

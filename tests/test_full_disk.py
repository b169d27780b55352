"""Jobs whose disk fills up or may only be read: real small file systems, which root alone may mount."""

import asyncio
import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendrpix.__main__ import main as gendrpix
from gendrpix.ui.widgets.inputs import example_photos
from tests.helpers.clients import Client
from tests.helpers.folders import read_folder, split_parts
from tests.helpers.guests import Guest
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import encoded, photo
from tests.helpers.server import running_app
from tests.helpers.stages import assert_same, checkpoint_state, stage_words
from training.__main__ import main as training

EXAMPLES = {path.name for path in example_photos()}
"""The server itself lays these out while it starts."""


class Disk:
    """A file system in memory, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str, what: tuple[str, ...] = ("-t", "tmpfs", "tmpfs")) -> bool:
        command = ["mount", "-o", options, *what, str(self.folder)]
        return not subprocess.run(command, check=False, capture_output=True).returncode

    def change(self, options: str) -> None:
        assert self.mount(f"remount,{options}", ())

    def fill_to(self, free_kb: int) -> None:
        """Let no more than that be free."""
        state = os.statvfs(self.folder)
        used_kb = (state.f_blocks - state.f_bavail) * state.f_frsize // 1024
        self.change(f"size={used_kb + free_kb}k")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    disk.folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() or not disk.mount("size=64m"):
        pytest.skip("only root may mount a file system")
    yield disk
    ctypes.CDLL(None).umount2(str(disk.folder).encode(), 2)  # detach, whatever is open


def test_a_batch_on_a_disk_that_fills_up(disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save_tiny_family(tmp_path / "weights", names=("gendr-pix",))
    pictures, out = tmp_path / "pictures", disk.folder / "out"
    pictures.mkdir()
    for number in range(6):
        photo(48, 40).rotate(number).save(pictures / f"{number}.png")

    def restore(folder: Path, scale: int = 2, *more: str) -> int:
        words = ["restore", str(pictures), "-o", str(folder), "--weights", str(weights), "--restorer", "gendr-pix"]
        return gendrpix([*words, "--scale", str(scale), "--device", "cpu", *more])

    assert restore(tmp_path / "whole") == 0
    whole = read_folder(tmp_path / "whole")
    out.mkdir()
    disk.fill_to(sum(len(data) for data in whole.values()) // 2 // 1024)
    assert restore(out) != 0
    now, parts = split_parts(read_folder(out))
    assert 0 < len(now) < len(whole) and now.items() <= whole.items() and not parts
    assert "No space left on device" in capsys.readouterr().err

    disk.change("size=64m")
    assert restore(out) == 0 and read_folder(out) == whole

    disk.change("ro")
    assert restore(out, 3, "--overwrite") != 0 and read_folder(out) == whole
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_training_on_a_disk_that_fills_up(
    disk: Disk, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))

    def train(folder: Path, steps: int) -> int:
        return training(stage_words("adc", family, photos, folder, steps=steps, checkpoint_every=1, sample_every=2))

    def names() -> list[str]:
        return sorted(path.name for path in (run / "checkpoints").iterdir())

    assert train(tmp_path / "whole", 4) == 0
    run = disk.folder / "run"
    assert train(run, 2) == 0
    before, kept = names(), read_folder(run / "checkpoints")

    for free_kb in (0, 8, 100):
        disk.fill_to(free_kb)
        assert train(run, 4) == 1
        said = capsys.readouterr().err
        assert "error: " in said and "No space left" in said, said
        assert names() == before and read_folder(run / "checkpoints") == kept and not list(run.rglob(".*"))
        assert json.loads((run / "config.json").read_text())["loop"]["steps"] in (2, 4)
        disk.change("size=64m")

    weights = read_folder(run / "weights")
    for there in (True, False):
        disk.fill_to(8)
        assert train(run, 2) == 1
        said = capsys.readouterr().err
        assert "error: " in said and "No space left" in said, said
        assert read_folder(run / "weights") == (weights if there else {}) and not list(run.rglob(".*"))
        disk.change("size=64m")
        shutil.rmtree(run / "weights", ignore_errors=True)

    disk.change("ro")
    assert train(run, 4) == 1 and "Read-only file system" in capsys.readouterr().err
    assert read_folder(run / "checkpoints") == kept

    disk.change("rw")
    assert train(run, 4) == 0
    last = "checkpoints/step-00000004"
    assert_same(checkpoint_state(run / last), checkpoint_state(tmp_path / "whole" / last))
    assert read_folder(run / "weights") == read_folder(tmp_path / "whole/weights")


def test_the_server_on_a_disk_that_fills_up(disk: Disk, tmp_path: Path) -> None:
    """Its temporary folder is full: uploads and results are refused in words, and it goes on once there is room."""
    weights = save_tiny_family(tmp_path / "weights")
    settings = {"GENDRPIX_WEIGHTS": str(weights), "GENDRPIX_MIN_FREE_MB": "0", "GENDRPIX_LOG_FORMAT": "json"}
    with running_app(disk.folder, settings) as app:
        app.wait_until_loaded()
        guest = Guest(app)
        restore = asyncio.run(Client(app.port).find_endpoint("restore"))
        noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(noise))
        how = {"photo": guest.uploaded(data), "restorer": "gendr-pix*", "scale": 2.0, "guidance": None}
        before = app.files()
        disk.fill_to(20)
        done = guest.call(restore.index, restore.arguments(**how))
        assert not done["success"] and "could not be written (No space left on device)" in done["output"]["error"]
        refused = guest.upload(data)
        assert (refused.status, refused.json["detail"]) == (507, "The server's disk is full; try again later.")
        assert [path for path in app.files() if path not in before and path.name not in EXAMPLES] == []
        assert app.health()["status"] == "ok"
        disk.change("size=64m")
        assert guest.call(restore.index, restore.arguments(**how))["success"]
        assert guest.upload(data).status == 200
        assert app.stop() == 0

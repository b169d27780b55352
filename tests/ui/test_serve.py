"""The server's folder and its log."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gendrpix.ui.server.logs import JsonFormatter, PlainFormatter
from gendrpix.ui.server.temp_folder import LOCK, PREFIX, private_folder, remove_dead, sweep


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_the_folder_is_private_and_goes(home: Path) -> None:
    before = tempfile.tempdir
    with private_folder() as folder:
        assert folder.parent == home.resolve() and folder.stat().st_mode & 0o077 == 0
        assert Path(tempfile.mkdtemp()).parent == folder / "work"
        assert Path(os.environ["GRADIO_TEMP_DIR"]) == folder / "served"
        (folder / "served" / "x").write_text("x")
    assert not folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == str(home) and tempfile.tempdir == before


def test_folders_of_killed_servers_are_removed_and_no_others(home: Path) -> None:
    place = "gendrpix.ui.server.temp_folder"
    code = f"import os; from {place} import private_folder\nwith private_folder() as f: print(f); os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    dead = Path(killed.stdout.strip() or next(home.glob(f"{PREFIX}*")))
    assert dead.is_dir()
    other = home / f"{PREFIX}without-lock"
    other.mkdir()
    with private_folder() as folder:
        assert not dead.exists()
        assert remove_dead(home) == 0 and folder.is_dir() and other.is_dir()  # one lives, one has no lock


def test_sweeping_keeps_what_is_new_and_the_pages_own(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    folder = tmp_path / "folder"
    for name in ("served/a", "served/b", "work/c"):
        (folder / name).mkdir(parents=True)
    old = [folder / "served/a/old.png", folder / "work/c/old.png"]
    own = folder / "served/b/example.png"
    for path in (*old, own, folder / LOCK):
        path.write_text("x")
    (folder / "served/a/link").symlink_to(outside)
    time.sleep(0.6)
    new = folder / "served/new.png"
    new.write_text("x")
    assert sweep(folder, 0.5, {own}) == 3
    assert not any(path.exists() for path in old) and own.exists() and new.exists() and outside.exists()
    assert not (folder / "served/a").exists() and (folder / "work/c").exists() and (folder / LOCK).exists()


def test_the_log_names_nobody() -> None:
    secret = "/home/ann/holiday in <Rome>.png"
    try:
        raise FileNotFoundError(2, "no such file", secret)
    except FileNotFoundError:
        record = logging.LogRecord("gendrpix", logging.ERROR, "x.py", 1, "failed after %d tries", (3,), sys.exc_info())
    record.seconds = 1.5
    for formatter in (JsonFormatter(), PlainFormatter()):
        line = formatter.format(record)
        assert "ann" not in line and "Rome" not in line and "\n" not in line
        assert "FileNotFoundError at test_serve.py:" in line and "failed after 3 tries" in line and "1.5" in line
    fields = json.loads(JsonFormatter().format(record))
    assert set(fields) == {"time", "level", "logger", "message", "seconds", "error"}

"""The server's own temporary folder: uploads and results lie there and nowhere else, and go with the server.

Each server has one of its own and holds a lock on it. A server that was killed leaves its folder behind unlocked, and
the next one that starts removes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: folders of killed servers stay until the system cleans up
    fcntl = None  # type: ignore[assignment]

PREFIX = "gendrpix-server-"
LOCK = "lock"
SWEEP_S = 600.0
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user may read: "served" holds what may be fetched, "work" all the rest.

    It is made in GRADIO_TEMP_DIR or, without it, in the system's folder for temporary files. Gradio and `tempfile` use
    it while the context lasts; then it is removed.
    """
    before = os.environ.get("GRADIO_TEMP_DIR"), tempfile.tempdir
    home = Path(before[0] or tempfile.gettempdir())
    home.mkdir(parents=True, exist_ok=True)
    remove_dead(home)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home)).resolve()
    with (folder / LOCK).open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("served", "work"):
            (folder / name).mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "served")
        tempfile.tempdir = str(folder / "work")
        try:
            yield folder
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before[0] is not None:
                os.environ["GRADIO_TEMP_DIR"] = before[0]
            tempfile.tempdir = before[1]
            shutil.rmtree(folder, ignore_errors=True)


def remove_dead(home: Path) -> int:
    """Remove the folders in `home` whose servers are gone; their number."""
    removed = 0
    for folder in home.glob(f"{PREFIX}*"):
        if fcntl is None or folder.is_symlink():
            continue
        with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    if removed:
        logger.info("removed %d folders of servers that were killed", removed)
    return removed


def sweep_often(folder: Path, keep_s: float) -> threading.Thread:
    """Delete what visitors brought and got keep_s seconds ago, in a thread; the page's own files, there now, stay."""
    own = frozenset(path for path in folder.rglob("*") if not path.is_dir())

    def run() -> None:
        while folder.is_dir():
            time.sleep(min(SWEEP_S, keep_s))
            sweep(folder, keep_s, own)

    thread = threading.Thread(target=run, name="gendrpix-sweep", daemon=True)
    thread.start()
    return thread


def sweep(folder: Path, keep_s: float, own: Collection[Path] = ()) -> int:
    """Delete the files under "served" and "work" that are older than keep_s seconds and not `own`; their number.

    Folders left empty in "served" go too. Symbolic links are deleted, never followed.
    """
    oldest = time.time() - keep_s
    deleted = 0
    for part in ("served", "work"):
        for parent, folders, files in os.walk(folder / part, topdown=False):
            for path in (Path(parent, name) for name in files):
                with contextlib.suppress(OSError):
                    if path not in own and path.lstat().st_ctime < oldest:
                        path.unlink()
                        deleted += 1
            for path in (Path(parent, name) for name in folders if part == "served"):
                with contextlib.suppress(OSError):  # it is not empty
                    path.rmdir()
    return deleted

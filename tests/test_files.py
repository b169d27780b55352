"""Files are whole or not there: full disks, folders that cannot be written, killed writers."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gendrpix import files
from gendrpix.errors import PictureError
from gendrpix.files import PART_NAME, make_folder, remove_stale_parts, write_text, written_beside
from gendrpix.image.write import save_png
from gendrpix.jobs.reports import write_report
from gendrpix.jobs.tasks import Task, remove_stale_parts_of
from tests.helpers.pictures import assert_sentence, photo

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = hasattr(os, "geteuid") and os.geteuid() == 0
    mounted = mounted and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode  # fmt: skip
    if not mounted:
        pytest.skip("only root may mount a small file system; the stand-in below is tested")
    yield folder
    ctypes.CDLL(None).umount2(str(folder).encode(), 2)  # detach, whatever is open


def test_text_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "report.csv"
    make_folder(path.parent)
    write_text(path, "one\r\ntwö\r\n")
    assert path.read_bytes() == b"one\r\ntw\xc3\xb6\r\n"
    with pytest.raises(PictureError, match="exists already") as caught:
        write_text(path, "three", overwrite=False)
    assert_sentence(str(caught.value))
    write_text(path, "three")
    assert path.read_text() == "three" and list(path.parent.iterdir()) == [path]
    with pytest.raises(PictureError, match="cannot be made") as caught:
        make_folder(path / "below a file")
    assert_sentence(str(caught.value))


def test_a_full_file_system_leaves_what_was_there(small_disk: Path) -> None:
    kept = save_png(photo(20, 20), small_disk / "kept.png")
    before = kept.read_bytes()
    noise = os.urandom(200_000)
    for name in ("new.png", "kept.png"):
        with (
            pytest.raises(PictureError, match="No space left on device") as caught,
            written_beside(small_disk / name, overwrite=True) as file,
        ):
            file.write(noise)
        assert_sentence(str(caught.value))
    assert list(small_disk.iterdir()) == [kept] and kept.read_bytes() == before


def test_a_full_disk_stood_in_for(tmp_path: Path) -> None:
    """The kernel's own limit on a file's size in place of a full disk: any user may set it."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.png"
    old_limits, old_action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old_limits[1]))
    try:
        with (
            pytest.raises(PictureError, match="could not be written") as caught,
            written_beside(path, overwrite=False) as file,
        ):
            file.write(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)
        signal.signal(signal.SIGXFSZ, old_action)
    assert_sentence(str(caught.value))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    kept = save_png(photo(8, 8), folder / "kept.png").read_bytes()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root may write everywhere: the system's answer is stood in for

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(files, "open_held", refuse)
    try:
        for write in (
            lambda: save_png(photo(8, 8), folder / "kept.png", overwrite=True),
            lambda: save_png(photo(8, 8), folder / "new.png"),
            lambda: write_report([], folder / "report.csv"),
        ):
            with pytest.raises(PictureError, match="Permission denied") as caught:
                write()
            assert_sentence(str(caught.value))
        assert [path.read_bytes() for path in folder.iterdir()] == [kept]
    finally:
        folder.chmod(0o755)


# What a killed process has left --------------------------------------------------------------------------------------


def test_only_what_nobody_writes_is_swept(tmp_path: Path) -> None:
    dead, other = tmp_path / f".{'0' * 16}.part", tmp_path / ".mine.part"
    for path in (dead, other):
        path.write_bytes(b"half")
    with written_beside(tmp_path / "a.png", overwrite=False) as file:
        file.write(b"whole")
        remove_stale_parts_of([Task(source=tmp_path / "a.jpg", target=tmp_path / "a.png")])
        assert not dead.exists() and other.exists()
        assert [PART_NAME.fullmatch(path.name) is not None for path in sorted(tmp_path.iterdir())] == [True, False]
    assert (tmp_path / "a.png").read_bytes() == b"whole"


def test_a_killed_writers_part_is_swept_at_once(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from gendrpix.files import written_beside
        with written_beside(Path(sys.argv[1]), overwrite=False) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.png")]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"half"]
    remove_stale_parts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_swept_before_its_lock_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, swept = files.lock, []

    def late(file: object, *, wait: bool) -> bool:
        if wait and not swept:
            remove_stale_parts(tmp_path)
            swept.append(not list(tmp_path.iterdir()))
        return lock(file, wait=wait)

    monkeypatch.setattr(files, "lock", late)
    save_png(photo(8, 8), tmp_path / "a.png")
    assert swept == [True] and [path.name for path in tmp_path.iterdir()] == ["a.png"]

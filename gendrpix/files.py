"""Files written beside their names and renamed when they are whole: a reader sees all of a file or none of it.

Whoever writes holds a lock on the unfinished file, which ends with the process, so that what a killed one has left can
be told from what is being written.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from gendrpix.errors import PictureError

_INSTALLED = Path(str(resources.files("gendrpix"))) / "assets"
ASSETS = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "assets"
"""Bundled weights and example photos: within an installed package, or beside the package in a checkout."""
PART_NAME = re.compile(r"\.[0-9a-f]{16}\.part")
"""What a file is called that is not whole yet."""
WINDOWS = os.name == "nt"


@contextlib.contextmanager
def written_beside(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A new file beside `path` that gets its name when the body has ended; nothing is left where it fails.

    An existing file is refused, before the body and after it, unless overwrite. PictureError where the file cannot
    be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        if not overwrite and path.exists():
            raise FileExistsError(path)
        with open_held(part) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if WINDOWS:  # where no open file can be renamed, and none be removed by another process
                file.close()
            publish(part, path, overwrite)
    except FileExistsError as error:
        raise already_there(path) from error
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or never made
            part.unlink()


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write `text` as UTF-8, lines ended as they are, as `written_beside` does."""
    with written_beside(path, overwrite=overwrite) as file:
        file.write(text.encode("utf-8"))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as comma-separated values, lines ended by a line feed; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises PictureError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PictureError(f"The folder {quoted(folder)} cannot be made ({reason}); choose another.") from error


def publish(part: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name in one step. FileExistsError where it is taken, unless overwrite."""
    if not overwrite:
        try:
            os.link(part, path)  # unlike a rename, a link never replaces what another process wrote meanwhile
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(path) from None
    os.replace(part, path)


def already_there(path: Path) -> PictureError:
    return PictureError(f"{quoted(path)} exists already; choose another name or allow overwriting (--overwrite).")


def unwritable(path: Path, error: OSError) -> PictureError:
    reason = error.strerror or type(error).__name__
    return PictureError(
        f"{quoted(path)} could not be written ({reason}); check the folder, its permissions and the free space."
    )


def quoted(path: Path) -> str:
    """The file's name for a message, what cannot be printed escaped."""
    name = printable(path.name or str(path))
    return f'"{name}"' if "'" in name else f"'{name}'"


def printable(text: str) -> str:
    r"""Text for terminals and reports: control characters as \x1b or \u202e, bytes that are no UTF-8 as \xff."""
    return text if text.isprintable() else "".join(one if one.isprintable() else escaped(one) for one in text)


def escaped(character: str) -> str:
    """One character in ASCII; a byte that is no UTF-8, as the system gives it, as itself."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode("ascii")


def try_folder(folder: Path) -> None:
    """Make a folder and write into it once. Raises PictureError where that cannot be."""
    make_folder(folder)
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        open_held(part).close()
    except OSError as error:
        raise PictureError(
            f"Nothing can be written into the folder {quoted(folder)} ({error.strerror}); choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


# What a killed process has left ------------------------------------------------------------------------------------


def remove_stale_parts(folder: Path) -> None:
    """Remove the unfinished files in a folder that no living process is writing."""
    for part in folder.glob(".*.part") if folder.is_dir() else ():
        if not PART_NAME.fullmatch(part.name):
            continue
        with contextlib.suppress(OSError), part.open("rb+") as file:  # it has got its name, or is not ours
            if WINDOWS:
                file.close()
            if WINDOWS or lock(file, wait=False):
                part.unlink()


def open_held(part: Path) -> BinaryIO:
    """A new file, locked. Raises OSError."""
    while True:
        file = part.open("xb")
        lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # swept between its making and its lock


def lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file until it is closed; False where another process holds it, or the file system has no locks."""
    if sys.platform == "win32":
        return True  # an open file is as good as a locked one there
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINTR):
            raise
        return False
    return True


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

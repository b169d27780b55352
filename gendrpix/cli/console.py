"""What the commands say on the terminal."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from gendrpix.files import printable


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise ValueError where a result exists already, unless it may be replaced."""
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise ValueError(f"{taken[0]} exists already; choose another folder or allow overwriting (--overwrite).")


# What is said ------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line on standard error, what cannot be printed escaped."""
    print(f"gendrpix: {printable(text)}", file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """One line on standard output, what cannot be printed escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)


def say_notes(source: Path, notes: Iterable[str]) -> None:
    """How the picture was read, where a user should know."""
    for note in notes:
        say(f"{source}: {note}")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own warnings and progress bars off the terminal."""
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

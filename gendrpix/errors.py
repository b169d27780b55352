"""What a user reads in place of a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")
CLOSED_PIPE = 141
"""Exit code of a program whose output nobody reads any more: 128 and SIGPIPE's number."""


class PictureError(ValueError):
    """A picture was refused or a file could not be written. The message is one plain sentence fit for a user."""


def sentence(error: BaseException) -> str:
    """The error on one line. ValueErrors are written to be read; of others the kind is named."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory for this; choose a smaller scale or a smaller picture."
    said = " ".join(str(error).split())
    if isinstance(error, ValueError):
        return said
    return f"Unexpected {type(error).__name__}: {said or 'no details'}"


def quiet_about_pipes(main: Callable[P, int]) -> Callable[P, int]:
    """A command that ends without a word where its output's reader has gone, as in `gendrpix --help | head -1`."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            try:
                return main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # for what the interpreter flushes at its end
            return CLOSED_PIPE

    return run

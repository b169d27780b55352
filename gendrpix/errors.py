"""What a user reads in place of a traceback."""

from __future__ import annotations


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

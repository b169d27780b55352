"""Checks of widget values, and the line that tells a job's progress."""

from __future__ import annotations


def progress_line(done: int, total: int, noun: str, seconds: float, *, done_before: int = 0) -> str:
    """ "3 of 12 pictures, about 20 s left."; `seconds` were taken by those beyond `done_before`."""
    fresh = done - done_before
    if fresh < 1:
        return f"{done} of {total} {noun}."
    left = seconds / fresh * (total - done)
    return f"{done} of {total} {noun}, about {f'{left:.0f} s' if left < 90 else f'{left / 60:.0f} min'} left."


def check_filled(*values: object) -> None:
    """Raise ValueError where a number's box was emptied."""
    if None in values:
        raise ValueError("A number is missing; fill in the empty box.")

"""How far a job is: a bar on a terminal, elsewhere a line now and then, both with the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gendrpix.cli.console import say, say_notes, tell

if TYPE_CHECKING:
    from gendrpix.jobs.tasks import Outcome

EVERY_S = 60.0
"""Seconds between two lines where there is no terminal."""


class TimeLeft:
    """The time that a job still takes, from what it has restored so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._restored = 0
        self._start = time.perf_counter()

    def take(self, outcome: Outcome) -> None:
        """One more is done. Until the first is restored, the clock starts anew: what is kept takes no time."""
        self.done += 1
        if outcome.status == "restored":
            self._restored += 1
        elif not self._restored:
            self._start = time.perf_counter()

    def said(self) -> str:
        """ "1,204 of 100,000, about 3 h 20 min left"."""
        count = f"{self.done:,} of {self.total:,}"
        if not self._restored:
            return count
        seconds = (time.perf_counter() - self._start) / self._restored * (self.total - self.done)
        return f"{count}, about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} days {hours % 24} h"


@contextlib.contextmanager
def progress(total: int, *, shown: bool) -> Iterator[Callable[[Outcome], None]]:
    """Gives the function that takes an outcome: it says what became of it, and how far the job is if `shown`."""
    from tqdm import tqdm

    left, last_s = TimeLeft(total), time.perf_counter()
    off = None if shown else True
    with tqdm(total=total, disable=off, file=sys.stderr, bar_format="{percentage:3.0f}%|{bar}| {postfix}") as bar:

        def advance(outcome: Outcome) -> None:
            nonlocal last_s
            with tqdm.external_write_mode(file=sys.stderr):
                say_outcome(outcome)
            left.take(outcome)
            bar.update()
            if not bar.disable:
                bar.set_postfix_str(left.said(), refresh=False)
            elif shown and left.done < total and time.perf_counter() - last_s > EVERY_S:
                last_s = time.perf_counter()
                say(f"{left.said()}.")

        yield advance


def say_outcome(outcome: Outcome) -> None:
    """What became of one picture: results on standard output, the rest on standard error."""
    task = outcome.task
    say_notes(task.source, outcome.notes)
    if outcome.status == "failed":
        say(f"{task.source}: {outcome.reason}")
    elif outcome.status == "skipped":
        tell(f"{task.target}  there already, kept")
    else:
        width, height = outcome.result_size or (0, 0)
        tell(f"{task.target}  {width} x {height}  {outcome.seconds:.2f} s")

"""Runs that end when they should: at Cancel, when their visitor has gone, after their time, when the server stops.

The networks look at the run's flag before each of their convolutions, so a run ends between restorers, tiles, branches
and layers alike, within the time of one convolution.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gendrpix.ui.server.queue import caller_left
from gendrpix.ui.server.settings import server_settings

if TYPE_CHECKING:
    from gendrpix.restore.pipelines import RestorerPipeline

WAIT_S = 0.1
"""How often one who waits for a turn looks at its flag."""
_running = threading.local()
_stops: weakref.WeakSet[CancelToken] = weakref.WeakSet()


class StoppedError(Exception):
    """The visitor has pressed Cancel or left, or the server stops."""


class TimeLimitError(ValueError):
    """A run took too long; the message is for the visitor."""


class CancelToken:
    """One run's flag. It lives in the visitor's session, where Cancel finds it.

    Made while an event is handled, it belongs to that event's visitor.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._left = caller_left()
        self._limit_s = server_settings().max_job_s
        self._deadline = time.monotonic() + self._limit_s
        self.kept: Any = None
        """What the run has made so far: what is left of it when it is stopped."""
        _stops.add(self)

    def set(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise StoppedError if the run was asked to stop or its visitor left, TimeLimitError after its time."""
        if self._event.is_set() or self._left():
            raise StoppedError("cancelled")
        if time.monotonic() > self._deadline:
            raise TimeLimitError(
                f"This took longer than the limit of {self._limit_s} seconds; "
                "choose a smaller scale, a smaller picture or fewer restorers."
            )


def stop_all() -> None:
    """Ask every run of this process to stop."""
    for stop in list(_stops):
        stop.set()


class FairLock:
    """One computation at a time, in the order of asking: whoever has many parts to compute waits between them too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextlib.contextmanager
    def turn(self, stop: CancelToken | None) -> Iterator[None]:
        """Compute with `stop` (without one: a new one) as this thread's flag.

        Raises StoppedError or TimeLimitError while waiting or computing.
        """
        stop, place = stop or CancelToken(), object()
        with self._changed:
            self._waiting.append(place)
        try:
            with self._changed:
                while self._waiting[0] is not place:
                    self._changed.wait(WAIT_S)
                    stop.check()
            _running.stop = stop
            stop.check()
            yield
        finally:
            _running.stop = None
            with self._changed:
                self._waiting.remove(place)
                self._changed.notify_all()


def watch(pipeline: RestorerPipeline) -> None:
    """Let the pipeline's networks look at the flag of the thread that runs them."""
    from torch import nn

    for network in (pipeline.unet, pipeline.vae):
        if network is not None:
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_pre_hook(_look)


def _look(*_: Any) -> None:
    stop: CancelToken | None = getattr(_running, "stop", None)
    if stop is not None:
        stop.check()

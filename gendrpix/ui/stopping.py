"""Cancel that stops a computation under way: the networks look at a flag before each of their convolutions.

So a run ends between restorers, tiles, branches and layers alike, within the time of one convolution. It ends as well
when nobody waits for it any more: a closed page, a client that has gone or has cancelled its job.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gradio.context import LocalContext

if TYPE_CHECKING:
    from gendrpix.pipelines import RestorerPipeline

WAIT_S = 0.1
"""How often one who waits for a turn looks at its flag."""
_running = threading.local()


class StoppedError(Exception):
    """The visitor has pressed Cancel, or has gone."""


class Stop:
    """One run's flag. It lives in the visitor's session, where Cancel finds it. Made in the handler that runs."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wanted = watch_caller()

    def set(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise StoppedError if the run was asked to stop, or nobody waits for it."""
        if self._event.is_set() or not self._wanted():
            raise StoppedError("cancelled")


def watch_caller() -> Callable[[], bool]:
    """A function that tells whether anybody still waits for the event that is being handled; True outside of one.

    Gradio marks its queue's event when the connection ends, and takes it off the active jobs when it is cancelled; it
    stops generators alone. The rest is read from the queue itself, which has no public interface (Gradio 6).
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return lambda: True
    queue = blocks._queue
    events = [event for job in queue.active_jobs for event in job or () if event._id == event_id]
    if not events:
        return lambda: True
    [event] = events
    return lambda: event.alive and any(event in job for job in queue.active_jobs if job)


@contextlib.contextmanager
def taking_turn(lock: threading.Lock, stop: Stop | None) -> Iterator[None]:
    """Hold `lock` with `stop` as this thread's flag. Raises StoppedError while waiting or computing."""
    while not lock.acquire(timeout=WAIT_S):
        if stop is not None:
            stop.check()
    _running.stop = stop
    try:
        if stop is not None:
            stop.check()
        yield
    finally:
        _running.stop = None
        lock.release()


def watch(pipeline: RestorerPipeline) -> None:
    """Let the pipeline's networks look at the flag of the thread that runs them."""
    from torch import nn

    for network in (pipeline.unet, pipeline.vae):
        if network is not None:
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_pre_hook(_look)


def _look(*_: Any) -> None:
    stop: Stop | None = getattr(_running, "stop", None)
    if stop is not None:
        stop.check()

"""Cancel that stops a computation under way: the networks look at a flag before each of their convolutions.

So a run ends between restorers, tiles, branches and layers alike, within the time of one convolution.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendrpix.pipelines import RestorerPipeline

WAIT_S = 0.1
"""How often one who waits for a turn looks at its flag."""
_running = threading.local()


class StoppedError(Exception):
    """The visitor has pressed Cancel."""


class Stop:
    """One run's flag. It lives in the visitor's session, where Cancel finds it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise StoppedError if the run was asked to stop."""
        if self._event.is_set():
            raise StoppedError("cancelled")


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

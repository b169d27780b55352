"""A button that begins a run and one that cancels it: how every tab's runs begin, end and are spoken of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from gendrpix.ui.errors import spoken
from gendrpix.ui.stopping import Stop, StoppedError

logger = logging.getLogger(__name__)

CANCELLED, STOPPED = "Cancelled.", "Stopped."
Updates = dict[Any, Any]
Ended = Callable[[Any, str], Updates]
"""What the tab shows of a run that ended early: from what the run kept, if anything, and how it ended."""


class RunButtons:
    """Both buttons and the flag of the visitor's run."""

    def __init__(self, label: str, busy: str, *, run_id: str, cancel_id: str) -> None:
        """label, busy: what the first button says before a run and during one."""
        self.label, self.busy = label, busy
        self.stop = gr.State(None)
        with gr.Row():
            self.run = gr.Button(label, variant="primary", scale=3, min_width=140, elem_id=run_id)
            self.cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=100, elem_id=cancel_id)

    @property
    def widgets(self) -> list[Any]:
        """All that a run updates."""
        return [self.stop, self.run, self.cancel]

    def running(self, stop: Stop) -> Updates:
        """While a run goes on: a run's first update."""
        return {
            self.stop: stop,
            self.run: gr.update(interactive=False, value=self.busy),
            self.cancel: gr.update(interactive=True),
        }

    def idle(self) -> Updates:
        """When nothing runs."""
        return {
            self.run: gr.update(interactive=True, value=self.label),
            self.cancel: gr.update(interactive=False),
        }

    def guarded(self, stop: Stop, updates: Iterator[Updates], ended: Ended) -> Iterator[Updates]:
        """A run's updates, and after them what the page shows if it was cancelled or failed; then raises gr.Error.

        In the run itself, since Gradio calls an event's `failure` listeners at a cancel too, and in no fixed order.
        """
        try:
            yield from updates
        except StoppedError:
            logger.info("cancelled")
            yield self._ended(stop, ended, CANCELLED)
        except Exception:
            yield self._ended(stop, ended, STOPPED)
            with spoken():
                raise

    def wire_cancel(self, running: Sequence[Any], ended: Ended, views: list[Any]) -> None:
        """Cancel stops `running`, these buttons' events, and says what `ended` says of it. views: all it updates."""
        self.cancel.click(
            lambda stop: self.cancelled(stop, ended),
            self.stop,
            views,
            cancels=[*running],
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )

    def cancelled(self, stop: Stop | None, ended: Ended) -> Updates:
        """Cancel was pressed: the computation under way ends within one layer."""
        if stop is not None:
            stop.set()
        return self._ended(stop, ended, CANCELLED)

    def _ended(self, stop: Stop | None, ended: Ended, how: str) -> Updates:
        return {**self.idle(), **ended(None if stop is None else stop.kept, how)}

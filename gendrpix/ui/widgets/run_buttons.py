"""A button that begins a run and one that cancels it: how every tab's runs begin, end and are spoken of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from gendrpix.ui.engine.cancel import CancelToken, StoppedError
from gendrpix.ui.widgets.errors import user_errors

logger = logging.getLogger(__name__)

CANCEL = "Cancel"
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
            self.cancel = gr.Button(CANCEL, interactive=False, scale=1, min_width=100, elem_id=cancel_id)
        private: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        self.cancel.click(self.press_cancel, self.stop, self.cancel, **private)

    @property
    def widgets(self) -> list[Any]:
        """All that a run updates."""
        return [self.stop, self.run, self.cancel]

    def running(self, stop: CancelToken) -> Updates:
        """While a run goes on: a run's first update."""
        return {
            self.stop: stop,
            self.run: gr.update(interactive=False, value=self.busy),
            self.cancel: gr.update(interactive=True, value=CANCEL),
        }

    def idle(self) -> Updates:
        """When nothing runs."""
        return {
            self.run: gr.update(interactive=True, value=self.label),
            self.cancel: gr.update(interactive=False, value=CANCEL),
        }

    def guarded(self, stop: CancelToken, updates: Iterator[Updates], ended: Ended) -> Iterator[Updates]:
        """A run's updates, and after them what the page shows if it was cancelled or failed; then raises gr.Error.

        All of it by the run itself, in order: Gradio's own cancel answers beside the run's updates, calls the event's
        `failure` listeners as well, and drops a new press of the button until it has come back from the server.
        """
        try:
            yield from updates
        except StoppedError:
            logger.info("cancelled")
            yield self._ended(stop, ended, CANCELLED)
        except Exception:
            yield self._ended(stop, ended, STOPPED)
            with user_errors():
                raise

    @staticmethod
    def press_cancel(stop: CancelToken | None) -> Any:
        """The computation under way ends within one layer; the run itself says the rest."""
        if stop is not None:
            stop.set()
        return gr.update(interactive=False, value="Cancelling …")

    def _ended(self, stop: CancelToken, ended: Ended, how: str) -> Updates:
        return {**self.idle(), **ended(stop.kept, how)}

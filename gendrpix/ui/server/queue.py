"""Who waits for what: the one module that looks into Gradio's queue.

Gradio marks the events of a client whose connection has closed as not alive, takes those that wait out of the queue and
lets those that run go on; `caller_left` is how a computation learns of it. The queue has no public interface.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradio.context import LocalContext
from gradio.server_messages import ProcessCompletedMessage

if TYPE_CHECKING:
    import gradio as gr


def caller_left() -> Callable[[], bool]:
    """For the event that is handled now: a function that tells whether its visitor has gone.

    Outside an event, where there is no visitor, nobody leaves.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None or event_id not in _events(blocks):
        return lambda: False
    events = _events(blocks)
    event = events[event_id]
    return lambda: not event.alive or event_id not in events  # a cancelled event is taken out at once


def count_jobs(page: gr.Blocks, client: str | None = None) -> tuple[int, int]:
    """(waiting, running) jobs, of all clients or of the one at that address."""
    waiting = {id(event) for event in _waiting(page)}
    jobs = [event for event in list(_events(page).values()) if client in (None, _address(event))]
    num_waiting = sum(id(job) in waiting for job in jobs)
    return num_waiting, len(jobs) - num_waiting


def session_of(page: gr.Blocks, event_id: str) -> str | None:
    """The session of a job that waits or runs; None once it is over."""
    event = _events(page).get(event_id)
    return None if event is None else str(event.session_hash)


async def end_job(page: gr.Blocks, event_id: str, sentence: str) -> None:
    """End a job with an error in words, for whoever asks: one that waits at once, one that runs as soon as it looks."""
    event = _events(page).get(event_id)
    if event is not None:
        message = ProcessCompletedMessage(output={"error": sentence, "title": "Stopped"}, success=False)
        page._queue.send_message(event, message)
        await page._queue.remove_from_queue(event_id)
        event.alive = False


async def end_waiting(page: gr.Blocks, sentence: str) -> None:
    """End every job that waits with an error in words."""
    for event in _waiting(page):
        await end_job(page, event._id, sentence)


def await_idle(page: gr.Blocks, timeout_s: float) -> bool:
    """Wait until nothing waits or runs; False if that took longer."""
    deadline = time.monotonic() + timeout_s
    while sum(count_jobs(page)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _events(page: gr.Blocks) -> dict[str, Any]:
    events: dict[str, Any] = page._queue.event_ids_to_events
    return events


def _waiting(page: gr.Blocks) -> list[Any]:
    queues = list(page._queue.event_queue_per_concurrency_id.values())
    return [event for queue in queues for event in list(queue.queue)]


def _address(event: Any) -> str | None:
    client = event.request.client
    return None if client is None else str(client.host)

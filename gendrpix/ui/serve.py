"""Serving the page: limits before Gradio, a health endpoint, and a stop that finishes what runs."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gendrpix import __version__
from gendrpix.ui.engine.cancel import stop_all
from gendrpix.ui.server.logs import take_over_uvicorn
from gendrpix.ui.server.middleware import HEALTH, Gate, Guard
from gendrpix.ui.server.queue import await_idle, count_jobs
from gendrpix.ui.server.settings import ServerSettings
from gendrpix.ui.server.temp_folder import sweep_often
from gendrpix.ui.widgets.inputs import EXAMPLES
from gendrpix.ui.widgets.theme import STYLE_SHEET, build_theme

if TYPE_CHECKING:
    import gradio as gr

    from gendrpix.ui.engine.engine import Engine

logger = logging.getLogger(__name__)

CANCEL_S = 5.0
"""Seconds that cancelled jobs have to end; they look at their flag within one layer."""
FETCH_S = 3.0
"""Seconds in which the visitor of a job that has just ended can fetch the result."""
CLOSING = "The server is being restarted; try again in a minute."


class Server:
    """A launched page, until it is stopped."""

    def __init__(self, page: gr.Blocks, engine: Engine, settings: ServerSettings, folder: Path) -> None:
        self.page = page
        self.engine = engine
        self.settings = settings
        self.folder = folder
        self._ended = threading.Event()

    def start(self, server_name: str) -> str:
        """Launch on that address and GRADIO_SERVER_PORT (or the next free port); the page's own address."""
        settings = self.settings
        self.page.queue(max_size=settings.max_queue, default_concurrency_limit=4, api_open=False)
        self.guard = Guard(self.page, settings, settings.host_names(server_name))
        _, address, _ = self.page.launch(
            server_name=server_name,
            theme=build_theme(),
            css_paths=STYLE_SHEET,
            footer_links=["api", "settings"],
            allowed_paths=[str(EXAMPLES)],  # a link may name one
            max_file_size=settings.max_file_mb * 1_000_000,
            state_session_capacity=settings.max_sessions,
            app_kwargs={
                "middleware": [Middleware(Gate, guard=self.guard)],
                "routes": [Route(HEALTH, self.health)],
            },
            run_history=False,
            mcp_server=True,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
        )
        take_over_uvicorn()
        sweep_often(self.folder, settings.keep_s)
        return str(address)

    def health(self, _: Request) -> JSONResponse:
        """What is served and how much waits: 200, or 503 while the server stops."""
        waiting, running = count_jobs(self.page)
        status = "stopping" if self.guard.closing else "ok"
        content: dict[str, Any] = {
            "status": status,
            "version": __version__,
            "weights": self.engine.weights_name,
            "loaded": self.engine.loaded,
            "waiting": waiting,
            "running": running,
        }
        headers = {"Cache-Control": "no-store"}
        return JSONResponse(content, status_code=503 if self.guard.closing else 200, headers=headers)

    def wait_for_signal(self) -> None:
        """Return when SIGTERM or Ctrl+C asks to stop; a second Ctrl+C ends the process at once."""

        def ask(number: int, _: Any) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        while not self._ended.wait(1.0):  # a wait without end would not be interrupted everywhere
            pass

    def stop(self) -> None:
        """Refuse new jobs, end those that wait, let the running one finish for `stop_s` seconds, then cancel it."""
        waiting, running = count_jobs(self.page)
        logger.info("stopping", extra={"waiting": waiting, "running": running})
        attempt(lambda: self.guard.close(CLOSING))
        finished = await_idle(self.page, self.settings.stop_s)
        if not finished:
            stop_all()
            await_idle(self.page, CANCEL_S)
        elif running:
            time.sleep(FETCH_S)
        self.page.close(verbose=False)
        logger.info("stopped", extra={"outcome": "finished" if finished else "cancelled"})


def attempt(step: Callable[[], object]) -> None:
    """Do one step of the stop; its failure is logged and does not keep the others from being done."""
    try:
        step()
    except Exception:  # the process ends in any case
        logger.exception("a step of the stop failed")

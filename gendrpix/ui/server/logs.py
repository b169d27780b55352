"""The server's log: what happened and where in the code, never whose file it was or where they are.

An exception's own message may quote a file's name or a path, so only its type and the lines of code are written.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType

FACTS = ("event", "reason", "outcome", "seconds", "megapixels", "route", "waiting", "running")
"""What a record may carry in `extra`, beside its message; each a number or a word of this program's own."""
SHOWN_FRAMES = 12
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class PlainFormatter(logging.Formatter):
    """ "INFO gendrpix.ui.widgets.errors: finished seconds=1.2", an exception as its type and its lines of code."""

    def format(self, record: logging.LogRecord) -> str:
        facts = [f"{name}={value}" for name, value in found_facts(record).items()]
        error = [failure_line(record.exc_info)] if has_error(record) else []
        return " ".join([f"{record.levelname} {record.name}: {record.getMessage()}", *facts, *error])


class JsonFormatter(logging.Formatter):
    """The same as one JSON object a line, with the time in UTC."""

    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **found_facts(record),
        }
        if has_error(record):
            line["error"] = failure_line(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def found_facts(record: logging.LogRecord) -> dict[str, object]:
    """The record's facts, in their order."""
    return {name: getattr(record, name) for name in FACTS if hasattr(record, name)}


def has_error(record: logging.LogRecord) -> bool:
    """Whether the record carries an exception."""
    return bool(record.exc_info and record.exc_info[0])


def failure_line(error: object) -> str:
    """ "KeyError at engine.py:120 prepare < tab.py:241 _run": the innermost line first, no messages."""
    assert isinstance(error, tuple)
    kind, _, trace = error
    frames = traceback.extract_tb(trace)[::-1][:SHOWN_FRAMES]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{kind.__name__} at {places}" if places else str(kind.__name__)


def set_up_logging(log_format: str) -> None:
    """Send everything to standard error in the one format, the libraries' own tracebacks too."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter() if log_format == "json" else PlainFormatter()
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in ("httpx", "httpcore", "mcp"):  # their lines hold addresses
        logging.getLogger(name).setLevel(logging.WARNING)
    traceback.print_exc = log_printed  # Gradio prints what its handlers raise


def log_printed(*_: object, **__: object) -> None:
    """What a library would print as a traceback."""
    logging.getLogger("gendrpix.library").warning("an error inside a library", exc_info=True)


def take_over_uvicorn() -> None:
    """Let the web server's lines pass through the one format; it sets its own up as it starts."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True

"""What a user reads when something fails: the core's own sentence, or a plain one. Tracebacks go to the log."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from gendrpix.ui.engine.cancel import StoppedError

logger = logging.getLogger(__name__)

UNEXPECTED = "Something went wrong here that is not your picture's fault. The details are in the server's log."
OUT_OF_MEMORY = "There is not enough memory for this. Choose a smaller scale, a smaller picture or fewer restorers."


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the body raises into `gr.Error`.

    ValueError (PictureError is one) is raised for users and shown as it stands, running out of memory gets its remedy,
    anything else a plain sentence, with the traceback in the log.
    """
    try:
        yield
    except gr.Error:
        raise
    except StoppedError as error:
        logger.info("cancelled")
        raise gr.Error("Cancelled.", duration=2, title="Stopped", print_exception=False) from error
    except ValueError as error:
        logger.info("refused", extra={"reason": type(error).__name__})  # the sentence may name the visitor's file
        raise as_gradio_error(str(error)) from error
    except Exception as error:  # the page's last line, nothing may pass it unspoken
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            logger.warning("out of memory", exc_info=error)
            raise as_gradio_error(OUT_OF_MEMORY) from error
        logger.exception("unexpected error in a handler")
        raise as_gradio_error(UNEXPECTED) from error


def as_gradio_error(sentence: str) -> gr.Error:
    """The sentence as a toast that stays long enough to be read and prints no traceback of its own.

    The page shows a toast as HTML, and the sentence may quote a file's name or what stands in a file.
    """
    plain = html.escape(sentence, quote=False)
    return gr.Error(plain, duration=12, title="That did not work", print_exception=False)

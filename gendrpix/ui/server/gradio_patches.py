"""What this server changes in Gradio: what visitors could misuse, and what fails on a busy machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import networking, processing_utils, utils
from gradio.utils import get_upload_folder

KNOCKS = 20
url_ok = networking.url_ok
ADDRESS = "Addresses are not fetched; upload the picture itself."


def harden_gradio() -> None:
    """Let no visitor make the server fetch an address, every update reach the page, and a slow start be a start.

    Gradio downloads a file whose path is an address. It refuses private addresses, but it keeps the whole answer in
    memory, however large, and asks anyone on a visitor's behalf. It keeps a record of 10,000 jobs for a monitoring page
    that is closed here.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
    processing_utils.async_ssrf_protected_download = take_own_file
    utils.diff = whole_update
    networking.url_ok = answers


def whole_update(old: Any, new: Any) -> list[list[Any]]:
    """In place of `gradio.utils.diff`: the edits that make `old`, a widget's last update, into `new`.

    Gradio 6's page applies them to the very object of the last update, which may still wait to be shown: what it said
    and `new` does not say is then lost, on a busy machine the last result of a run. A replaced whole touches nothing.
    """
    return [] if old == new else [["replace", [], new]]


def answers(url: str) -> bool:
    """In place of `gradio.networking.url_ok`, which gives up a starting server that does not answer within 3 s."""
    return any(url_ok(url) for _ in range(KNOCKS))


async def take_own_file(url: str, cache_dir: str) -> str:
    """In place of the download: the path of a file that this server itself gives out, as language models name it.

    Nothing is fetched, whatever host the address names. Raises gr.Error for any other address.
    """
    _, found, path = unquote(urlsplit(url).path).partition("/gradio_api/file=")
    file = Path(path).resolve()
    if found and file.is_relative_to(Path(get_upload_folder()).resolve()) and file.is_file():
        return str(file)
    raise gr.Error(ADDRESS, title="That did not work", print_exception=False)

"""What this server changes in Gradio, because visitors may call it and the page does not need it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils
from gradio.utils import get_upload_folder

ADDRESS = "Addresses are not fetched; upload the picture itself."


def harden_gradio() -> None:
    """Let no visitor make the server fetch an address.

    Gradio downloads a file whose path is an address. It refuses private addresses, but it keeps the whole answer in
    memory, however large, and asks anyone on a visitor's behalf.
    """
    processing_utils.async_ssrf_protected_download = take_own_file


async def take_own_file(url: str, cache_dir: str) -> str:
    """In place of the download: the path of a file that this server itself gives out, as language models name it.

    Nothing is fetched, whatever host the address names. Raises gr.Error for any other address.
    """
    _, found, path = unquote(urlsplit(url).path).partition("/gradio_api/file=")
    file = Path(path).resolve()
    if found and file.is_relative_to(Path(get_upload_folder()).resolve()) and file.is_file():
        return str(file)
    raise gr.Error(ADDRESS, title="That did not work", print_exception=False)

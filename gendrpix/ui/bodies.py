"""The bodies of requests: how long they may be, how slow, and what may stand in them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException

if TYPE_CHECKING:
    from starlette.types import Message, Receive

MB = 1_000_000
PAUSE_S = 30.0
"""Seconds that a client may pause while it sends a body."""
PROTOCOL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|\\\\")
"""How an address begins, as no path of a file does."""


class Refusal(Exception):
    """A request goes no further: the HTTP status, a short reason for the log, one sentence for the client."""

    def __init__(self, status: int, reason: str, sentence: str, retry_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.sentence = sentence
        self.retry_s = retry_s


def limited(receive: Receive, headers: Headers, most: int, *, upload: bool = False) -> Receive:
    """`receive` that raises once the body is longer than `most` bytes, pauses too long or ends early.

    It raises Refusal; for an upload MultiPartException, at which Gradio deletes what it has written and answers.
    """
    check_announced(headers, most)
    total = 0
    complete = False

    def failure(refusal: Refusal) -> Exception:
        return MultiPartException(refusal.sentence) if upload else refusal

    async def receive_limited() -> Message:
        nonlocal total, complete
        if complete:  # what follows is the client's leaving, for which one may wait long
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), PAUSE_S)
        except TimeoutError:
            raise failure(Refusal(408, "slow", "The request came too slowly; try again.")) from None
        if message["type"] == "http.disconnect":
            raise failure(Refusal(400, "left", "The request ended early."))
        total += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if total > most:
            raise failure(too_large(most))
        return message

    return receive_limited


async def read_body(receive: Receive, headers: Headers, most: int) -> bytes:
    """The whole body. Raises Refusal if it is longer than `most` bytes, too slow or cut short."""
    parts = []
    bounded = limited(receive, headers, most)
    while True:
        message = await bounded()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def announced(headers: Headers, most: int) -> int:
    """The length that a request says its body has, `most` if that is more, 0 if it says none."""
    length = headers.get("content-length", "")
    return min(int(length[:20]), most) if length.isdigit() else 0


def check_announced(headers: Headers, most: int) -> None:
    """Raise Refusal if the announced length is too large or no number."""
    length = headers.get("content-length")
    if length is not None and (not length.isdigit() or int(length[:20]) > most):
        raise too_large(most)


def too_large(most: int) -> Refusal:
    """The refusal of a body."""
    size = f"{most / MB:g} MB" if most >= MB else f"{most / 1000:g} KB"
    return Refusal(413, "size", f"The request exceeds the maximum allowed size of {size}; send less.")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refusal where there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "json", "The request's body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, "json", "The request's body must be a JSON object.")
    return value


def check_files(value: Any) -> None:
    """Raise Refusal where a file is named that was not uploaded here.

    Gradio would fetch an address itself, and it does not look at a file's path unless the file is marked as one.
    """
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item.values())
            path = item.get("path")
            if isinstance(path, str):
                meta = item.get("meta")
                marked = isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"
                address = PROTOCOL.match(path.strip()) and "/gradio_api/file=" not in path  # those: hardening.py
                if not marked or address:
                    raise Refusal(400, "file", "Upload the picture itself; addresses and other files are not read.")

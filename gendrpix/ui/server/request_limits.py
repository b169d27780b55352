"""The bodies of requests: how long they may be, how slow, and what may stand in them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
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
                address = PROTOCOL.match(path.strip()) and "/gradio_api/file=" not in path  # those: gradio_patches.py
                if not marked or address:
                    raise Refusal(400, "file", "Upload the picture itself; addresses and other files are not read.")


MAX_KNOWN = 20_000
"""Clients whose rate is remembered; the one longest unseen is forgotten first."""


class Rate:
    """A token bucket for each client: `per_minute` requests at once, refilled evenly over a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self.clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens, when they were counted

    def take(self, client: str) -> float:
        """Count one request; 0 if it is allowed, else the seconds until the next one is."""
        now = self.clock()
        tokens, counted = self._buckets.pop(client, (float(self.per_minute), now))
        per_second = self.per_minute / 60
        tokens = min(float(self.per_minute), tokens + (now - counted) * per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_KNOWN:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / per_second


class OpenRequests:
    """The requests that each client has open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Count one more unless that is too many."""
        if self._open[client] >= self.most:
            return False
        self._open[client] += 1
        return True

    def leave(self, client: str) -> None:
        """One request has ended."""
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]


def client_of(peer: str, forwarded_for: Iterable[str], trusted_proxies: int) -> str:
    """The client's address: the connection's own or, behind trusted proxies, the one that the outermost of them saw.

    `forwarded_for`: the X-Forwarded-For header fields in their order. Each proxy appends whom it was asked by, so what
    the client itself wrote stands further left and is not read. An IPv6 client counts as its network of 64 bits.
    """
    chain = [part.strip() for field in forwarded_for for part in field.split(",") if part.strip()]
    address = peer
    if trusted_proxies and chain:
        address = chain[max(0, len(chain) - trusted_proxies)]
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return peer
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)

"""What stands before Gradio: every request passes here first, and what has no business here goes no further.

A plain ASGI middleware, so that streams stay streams. It decides by path, size, rate and host; it never reads a
picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import shutil
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from gendrpix.ui.server.queue import count_jobs, end_job, end_waiting, session_of
from gendrpix.ui.server.request_limits import (
    MB,
    PROTOCOL,
    OpenRequests,
    Rate,
    Refusal,
    announced,
    check_files,
    client_of,
    limited,
    parse_object,
    read_body,
    replayed,
)

if TYPE_CHECKING:
    import gradio as gr
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gendrpix.ui.server.settings import ServerSettings

logger = logging.getLogger(__name__)

HEALTH = "/health"
API = "/gradio_api"
UPLOAD = f"{API}/upload"
FILE = f"{API}/file="
OWN_FILES = ("/assets/", "/static/", "/svelte/")
"""The page's scripts and styles: not counted as requests."""
PAGES = frozenset(
    ["/", HEALTH, "/config", "/config/", "/favicon.ico", "/manifest.json", "/pwa_icon", "/robots.txt", "/theme.css"]
    + [f"{API}/{name}" for name in ("app_id", "cancel", "info", "info/", "openapi.json", "queue/data", "queue/join")]
    + [f"{API}/{name}" for name in ("queue/status", "reset", "startup-events", "theme.css", "upload_progress")]
    + [UPLOAD, f"{API}/mcp"]
)
PREFIXES = (*OWN_FILES, FILE, *(f"{API}/{name}/" for name in ("call", "heartbeat", "mcp", "run")))
"""All that the page and its clients need of Gradio. Not here, so refused: its proxy, recordings, streams, deep links,
component functions, login, monitoring, run history, the editor."""
JOINS = re.compile(rf"{API}/(queue/join|call/(v2/)?[\w-]+)/?")
ANSWERS = re.compile(rf"{API}/call/(?:v2/)?[\w-]+/(?P<event>[\w-]+)")
SESSION = re.compile(r"[\w-]{1,64}")
FORWARDED = (b"forwarded", b"x-real-ip", b"x-gradio-server", b"x-original-url", b"x-rewrite-url")
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""The page takes nothing from other servers and sends nothing there, whatever text it shows."""
UNHEARD = "Nobody asked for this job's answer in time, so it was dropped; send it again."
MAX_HEADER_BYTES = 32_768
DRAIN_S, DRAIN_BYTES = 2.0, 16_000_000
"""How long, and how many bytes of, a body that was refused for its size is still taken."""
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


class Guard:
    """The state that all requests share; `Gate` is the middleware that asks it."""

    def __init__(self, page: gr.Blocks, settings: ServerSettings, hosts: frozenset[str]) -> None:
        self.page = page
        self.settings = settings
        self.hosts = hosts
        self.rate = Rate(settings.max_requests_per_minute)
        self.open = OpenRequests(settings.max_open_per_client)
        self.listeners: Counter[str] = Counter()
        self.closing = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def check(self, scope: Scope, headers: Headers, client: str) -> None:
        """Raise Refusal unless the request may go on to have its body read."""
        path, method = scope["path"], scope["method"]
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise Refusal(431, "headers", "The request's headers are too long.")
        host = host_name(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            raise Refusal(
                421,
                "host",
                "This server does not answer to that host name; GENDRPIX_ALLOWED_HOSTS names those it does.",
            )
        if path not in PAGES and not path.startswith(PREFIXES):
            raise Refusal(404, "route", "There is nothing here.")
        if path.startswith(FILE) and PROTOCOL.match(path[len(FILE) :].lstrip()):
            raise Refusal(403, "address", "Addresses are not fetched; only files of this page are given out.")
        if path != HEALTH and not path.startswith(OWN_FILES):
            wait_s = self.rate.take(client)
            if wait_s:
                most = self.settings.max_requests_per_minute
                raise Refusal(429, "rate", f"More than {most} requests a minute; wait a moment.", wait_s)
        if method == "POST" and path != f"{API}/cancel":
            self._check_room(path, client, announced(headers, self.settings.max_upload_mb * MB))

    def _check_room(self, path: str, client: str, upload_bytes: int) -> None:
        if self.closing:
            raise Refusal(503, "closing", "The server is being restarted; try again in a minute.", 60)
        needed = self.settings.min_free_mb * MB + upload_bytes
        if path == UPLOAD and shutil.disk_usage(tempfile.gettempdir()).free < needed:
            raise full_disk()
        if JOINS.fullmatch(path) and sum(count_jobs(self.page, client)) >= self.settings.max_jobs_per_client:
            most = self.settings.max_jobs_per_client
            raise Refusal(429, "jobs", f"You have {most} jobs waiting already; wait until one is done.", 5)

    def check_json(self, body: bytes) -> None:
        """Raise Refusal unless the body is a JSON object that Gradio can take."""
        value = parse_object(body)
        session, index = value.get("session_hash"), value.get("fn_index")
        if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):
            raise Refusal(400, "json", "The session is not one of this page; reload the page.")
        if index is not None and (not isinstance(index, int) or index not in self.page.fns):
            raise Refusal(400, "json", "There is no such function here; reload the page.")
        if value.get("batched"):
            raise Refusal(400, "json", "This server takes no batched calls.")
        check_files(value)

    def expect_listener(self, event_id: str) -> None:
        """Drop the job unless its client asks for the answer soon."""
        asyncio.get_running_loop().call_later(self.settings.unheard_s, self._look_for_listener, event_id)

    def _look_for_listener(self, event_id: str) -> None:
        session = session_of(self.page, event_id)
        if session is not None and not self.listeners[session] and not self.listeners[event_id]:
            logger.info("job dropped", extra={"reason": "unheard"})
            self._dropping = asyncio.ensure_future(end_job(self.page, event_id, UNHEARD))

    def close(self, sentence: str) -> None:
        """Take no more jobs, and end those that wait with the sentence. Called from another thread."""
        self.closing = True
        if self.loop is not None:
            asyncio.run_coroutine_threadsafe(end_waiting(self.page, sentence), self.loop).result(5)


class Gate:
    """The middleware."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        guard = self.guard
        guard.loop = guard.loop or asyncio.get_running_loop()
        client = seen_through_proxies(scope, guard.settings.trusted_proxies)
        if not guard.open.enter(client):
            too_many = Refusal(429, "open", "Too many requests of yours are open; close some tabs.", 10)
            await answer(too_many, scope, receive, send)
            return
        sender = Sender(send, scope["path"])
        try:
            await self._pass(scope, receive, sender, client)
        except (Refusal, OSError) as error:
            is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            if sender.started or not (is_full or isinstance(error, Refusal)):
                raise  # nothing can be said any more: the connection is closed
            await answer(error if isinstance(error, Refusal) else full_disk(), scope, receive, sender)
        finally:
            guard.open.leave(client)

    async def _pass(self, scope: Scope, receive: Receive, sender: Sender, client: str) -> None:
        guard, headers = self.guard, Headers(scope=scope)
        guard.check(scope, headers, client)
        path = scope["path"]
        if path == UPLOAD:
            receive = limited(receive, headers, guard.settings.max_upload_mb * MB, upload=True)
        elif scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            body = await read_body(receive, headers, guard.settings.max_json_kb * 1000)
            if not path.startswith(f"{API}/mcp"):
                guard.check_json(body)
            receive = replayed(body, receive)
        listened = listened_to(scope)
        guard.listeners[listened] += 1
        try:
            await self.app(scope, receive, sender)
        finally:
            guard.listeners[listened] -= 1
            if not guard.listeners[listened]:
                del guard.listeners[listened]
        if JOINS.fullmatch(path) and scope["method"] == "POST" and sender.event_id:
            guard.expect_listener(sender.event_id)


class Sender:
    """Sends the answer on with the headers that protect the page, and reads the id of a job that was taken."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self._reads = bool(JOINS.fullmatch(path))
        self.started = False
        self.event_id = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            headers["Content-Security-Policy"] = FILE_POLICY if self._path.startswith(FILE) else CONTENT_POLICY
            if self._path.startswith((FILE, f"{API}/queue/", f"{API}/call/")):
                headers["Cache-Control"] = "private, no-store"
        elif self._reads and message["type"] == "http.response.body" and not self.event_id:
            found = re.search(rb'"event_id":\s*"([0-9a-f]{32})"', message.get("body", b"")[:200])
            self.event_id = found.group(1).decode() if found else ""
        await self._send(message)


def full_disk() -> Refusal:
    return Refusal(507, "disk", "The server's disk is full; try again later.", 600)


def seen_through_proxies(scope: Scope, trusted_proxies: int) -> str:
    """The client's address, written into the scope; forwarding headers that nobody vouches for are removed."""
    peer, port = scope.get("client") or ("unknown", 0)
    fields = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    client = client_of(peer, fields, trusted_proxies)
    scope["client"] = (client, port)
    if not trusted_proxies:
        kept = [(k, v) for k, v in scope["headers"] if k not in FORWARDED and not k.startswith(b"x-forwarded-")]
        scope["headers"] = kept
    return client


def host_name(host: str) -> str:
    """ "example.org" of "Example.org:7860"; "::1" of "[::1]:7860"."""
    host = host.strip().lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def listened_to(scope: Scope) -> str:
    """The session or job whose answers this request waits for; empty if none."""
    if scope["method"] != "GET":
        return ""
    if scope["path"] == f"{API}/queue/data":
        return str(parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0])
    found = ANSWERS.fullmatch(scope["path"])
    return str(found["event"]) if found else ""


async def drain(receive: Receive) -> None:
    """Drop what is on its way, up to a bound: a client that sends all before it reads would miss the answer."""
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while dropped < DRAIN_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


async def answer(refusal: Refusal, scope: Scope, receive: Receive, send: Any) -> None:
    """Say the refusal; nothing of the request is logged but the reason."""
    logger.info("request refused", extra={"reason": refusal.reason})
    headers = {"Retry-After": str(max(1, round(refusal.retry_s)))} if refusal.retry_s else {}
    if refusal.status == 413:
        await drain(receive)
    if refusal.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    content: dict[str, Any] = {"detail": refusal.sentence, "error": refusal.sentence}
    await JSONResponse(content, status_code=refusal.status, headers=headers)(scope, receive, send)

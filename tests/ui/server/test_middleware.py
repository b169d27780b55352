"""What stands before Gradio, without a server: who a client is, how much it may ask, what a request may hold."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gendrpix.ui.server import request_limits
from gendrpix.ui.server.middleware import CONTENT_POLICY, FILE_POLICY, Gate, Guard, host_name
from gendrpix.ui.server.request_limits import (
    MAX_KNOWN,
    OpenRequests,
    Rate,
    Refusal,
    check_files,
    client_of,
    parse_object,
)
from gendrpix.ui.server.settings import ServerSettings, server_settings

LIMITS = ServerSettings(max_json_kb=2, max_upload_mb=1, max_requests_per_minute=5, max_open_per_client=2, min_free_mb=0)


# Clients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "proxies", "client"),
    [
        ([], 0, "10.0.0.1"),
        (["1.2.3.4"], 0, "10.0.0.1"),
        (["1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], 1, "1.2.3.4"),  # the client wrote 6.6.6.6 itself
        (["6.6.6.6", "1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4, 10.9.9.9"], 2, "1.2.3.4"),
        (["1.2.3.4"], 5, "1.2.3.4"),
        (["nonsense"], 1, "10.0.0.1"),
        (["[2001:db8:1:2:3:4:5:6]"], 1, "2001:db8:1:2::"),
        (["2001:db8:1:2:ffff::1"], 1, "2001:db8:1:2::"),
        (["::ffff:1.2.3.4"], 1, "1.2.3.4"),
        ([], 1, "10.0.0.1"),
    ],
)
def test_client_behind_proxies(forwarded: list[str], proxies: int, client: str) -> None:
    assert client_of("10.0.0.1", forwarded, proxies) == client


def test_rate_refills_evenly() -> None:
    now = 0.0
    rate = Rate(60, clock=lambda: now)
    assert [rate.take("a") for _ in range(60)] == [0.0] * 60
    assert rate.take("a") == pytest.approx(1.0)
    assert rate.take("b") == 0.0  # another client
    now = 2.5
    assert [rate.take("a") > 0 for _ in range(3)] == [False, False, True]
    now = 1000.0
    assert sum(rate.take("a") == 0 for _ in range(100)) == 60


def test_rate_forgets_the_longest_unseen() -> None:
    rate = Rate(1, clock=lambda: 0.0)
    for number in range(MAX_KNOWN + 10):
        rate.take(str(number))
    assert len(rate._buckets) == MAX_KNOWN and "0" not in rate._buckets


def test_open_requests_are_counted_back() -> None:
    requests = OpenRequests(2)
    assert requests.enter("a") and requests.enter("a") and not requests.enter("a") and requests.enter("b")
    requests.leave("a")
    assert requests.enter("a")
    for client in "aab":
        requests.leave(client)
    assert not requests._open


# Settings ----------------------------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerSettings.from_environment({}) == ServerSettings()
    given = {"GENDRPIX_MAX_QUEUE": " 7 ", "GENDRPIX_LOG_FORMAT": "json", "GENDRPIX_TRUSTED_PROXIES": "0", "OTHER": "x"}
    assert ServerSettings.from_environment(given) == ServerSettings(max_queue=7, log_format="json")
    for name, value in (("MAX_QUEUE", "many"), ("MAX_QUEUE", "0"), ("TRUSTED_PROXIES", "-1"), ("LOG_FORMAT", "xml")):
        with pytest.raises(ValueError, match=f"GENDRPIX_{name} is '?{value}'?; give .*[.]$"):
            ServerSettings.from_environment({f"GENDRPIX_{name}": value})
    server_settings.cache_clear()
    monkeypatch.setenv("GENDRPIX_MAX_PIXELS", "123")
    assert server_settings().max_pixels == 123
    server_settings.cache_clear()


def test_host_names() -> None:
    assert "localhost" in ServerSettings().host_names("127.0.0.1")
    assert ServerSettings().host_names("0.0.0.0") == frozenset()
    assert ServerSettings(allowed_hosts="a.org, B.org").host_names("127.0.0.1") == {"a.org", "b.org"}
    assert ServerSettings(allowed_hosts="*").host_names("127.0.0.1") == frozenset()
    assert [host_name(host) for host in ("A.org:80", "[::1]:7860", "[::1]", "a.org")] == [
        "a.org",
        "::1",
        "::1",
        "a.org",
    ]


# Bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"a":' + b"[" * 100_000, b"\xff", b'{"a": 1' + b"0" * 5000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_object(body)
    assert caught.value.status == 400


def test_files_must_be_marked_and_no_addresses() -> None:
    marked = {"path": "/tmp/x.png", "meta": {"_type": "gradio.FileData"}}
    check_files({"data": [marked, [marked], 1, None, {"a": {"path": 5}}]})
    addresses = ["http://a/b.png", " HTTPS://a", "file:///etc/passwd", "//host/x", "\\\\host\\x", "ftp://x", "C:\\x"]
    wrong = [{"path": "/etc/passwd"}, {"path": "/x", "meta": "gradio.FileData"}, {"path": "x", "meta": {"_type": "x"}}]
    wrong += [{**marked, "path": address} for address in addresses]
    for value in wrong:
        with pytest.raises(Refusal, match="addresses and other files are not read"):
            check_files({"data": [1, {"deep": [value]}]})


# The gate ----------------------------------------------------------------------------------------------------------

Reply = tuple[int, dict[str, str], Any]


class Asked:
    """An ASGI application that remembers what came through."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: dict, receive: Callable[[], Awaitable[dict]], send: Callable) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.scopes.append(scope)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def ask(
    gate: Gate,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    parts: list[bytes] | None = None,
    client: str = "1.1.1.1",
) -> Reply:
    """(status, headers, JSON) of one request."""
    sent: list[dict] = []
    todo = [{"type": "http.request", "body": part, "more_body": True} for part in parts or []]
    todo.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict:
        if not todo:
            await asyncio.sleep(3600)
        return todo.pop(0)

    async def send(message: dict) -> None:
        sent.append(message)

    given = {"host": "localhost:7860", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": (client, 5),
    }
    asyncio.run(gate(scope, receive, send))
    back = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], back, json.loads(sent[1]["body"] or b"null")


def make_gate(
    settings: ServerSettings = LIMITS, hosts: frozenset[str] = frozenset({"localhost"})
) -> tuple[Gate, Asked]:
    queue = SimpleNamespace(event_ids_to_events={}, event_queue_per_concurrency_id={})
    page = SimpleNamespace(fns={3: None}, _queue=queue)
    inner = Asked()
    return Gate(inner, Guard(page, settings, frozenset({"localhost"}))), inner


def test_forwarding_headers_need_trust() -> None:
    spoofed = {"x-forwarded-for": "9.9.9.9", "x-forwarded-host": "evil.org", "x-gradio-server": "http://evil.org"}
    gate, inner = make_gate()
    ask(gate, "/config", headers={**spoofed, "x-forwarded-proto": "https", "forwarded": "for=9.9.9.9", "accept": "x"})
    assert inner.scopes[0]["client"][0] == "1.1.1.1"
    assert [name for name, _ in inner.scopes[0]["headers"]] == [b"host", b"accept"]
    gate, inner = make_gate(ServerSettings(trusted_proxies=1))
    ask(gate, "/config", headers=spoofed)
    assert inner.scopes[0]["client"][0] == "9.9.9.9"
    assert b"x-forwarded-host" in [name for name, _ in inner.scopes[0]["headers"]]


def test_spoofed_addresses_do_not_evade_the_rate() -> None:
    gate, _ = make_gate()
    status = [ask(gate, "/", headers={"x-forwarded-for": f"9.9.9.{n}"})[0] for n in range(7)]
    assert status == [200] * 5 + [429] * 2
    assert ask(gate, "/", client="2.2.2.2")[0] == 200
    assert ask(gate, "/assets/index.js")[0] == ask(gate, "/health")[0] == 200  # not counted
    refused = ask(gate, "/")
    assert int(refused[1]["retry-after"]) >= 1 and "5 requests a minute" in refused[2]["detail"]


@pytest.mark.parametrize("host", ["evil.org", "evil.org:7860", "", "localhost.evil.org", "127.0.0.1"])
def test_other_host_names_are_refused(host: str) -> None:
    gate, inner = make_gate()
    assert ask(gate, "/", headers={"host": host})[0] == 421
    assert not inner.scopes


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=https://x.hf.space/",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-code",
        "/gradio_api/vibe-edit",
        "/gradio_api/deep_link",
        "/gradio_api/component_server",
        "/gradio_api/stream/x",
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/profiling/traces",
        "/gradio_api/login_check",
        "/gradio_api/token",
        "/monitoring",
        "/login",
        "/docs",
        "/openapi.json",
        "//gradio_api/queue/join",
        "/gradio_api/../gradio_api/proxy=x",
        "/unknown",
    ],
)
def test_routes_that_nobody_needs_are_closed(path: str) -> None:
    gate, inner = make_gate()
    assert ask(gate, path)[0] == 404
    assert not inner.scopes


@pytest.mark.parametrize("address", ["http://127.0.0.1/x", " https://a", "file:///etc/passwd", "//host/x", "HTTP:x"])
def test_addresses_are_not_fetched(address: str) -> None:
    gate, inner = make_gate()
    assert ask(gate, f"/gradio_api/file={address}")[0] == 403
    assert not inner.scopes


def test_bodies_are_bounded() -> None:
    gate, inner = make_gate(ServerSettings(max_json_kb=2, max_upload_mb=1, min_free_mb=0))
    join = "/gradio_api/queue/join"
    assert ask(gate, join, "POST", {"content-length": "9999999"})[0] == 413
    assert ask(gate, join, "POST", {"content-length": "-1"})[0] == 413
    assert ask(gate, join, "POST", parts=[b"x" * 1500] * 2)[0] == 413  # none announced
    assert ask(gate, "/gradio_api/upload", "POST", {"content-length": "1000001"})[0] == 413
    assert not inner.scopes
    body = json.dumps({"fn_index": 3, "session_hash": "abc", "data": ["x" * 1000]}).encode()
    assert ask(gate, join, "POST", parts=[body[:9], body[9:]])[0] == 200
    assert inner.bodies == [body]
    with pytest.raises(Exception, match="exceeds the maximum allowed size of 1 MB"):  # Gradio's parser answers it
        ask(gate, "/gradio_api/upload", "POST", parts=[b"x" * 600_000] * 2)


def test_slow_bodies_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "PAUSE_S", 0.05)
    gate, inner = make_gate()

    async def call() -> int:
        sent: list[dict] = []

        async def receive() -> dict:
            await asyncio.sleep(10)
            return {}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "query_string": b""}
        await gate({**scope, "headers": [(b"host", b"localhost")], "client": ("1.1.1.1", 5)}, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(call()) == 408
    assert not inner.scopes and not gate.guard.open._open


@pytest.mark.parametrize(
    "value",
    [
        {"fn_index": 4},
        {"fn_index": "3"},
        {"fn_index": 3, "session_hash": "../x"},
        {"fn_index": 3, "session_hash": "x" * 65},
        {"fn_index": 3, "session_hash": {"a": 1}},
        {"fn_index": 3, "batched": True},
        {"fn_index": 3, "data": [{"path": "/etc/passwd"}]},
    ],
)
def test_calls_that_gradio_need_not_see(value: dict) -> None:
    gate, inner = make_gate()
    status, _, answer = ask(gate, "/gradio_api/queue/join", "POST", parts=[json.dumps(value).encode()])
    assert status == 400 and answer["detail"].endswith(".")
    assert not inner.scopes


def test_a_closing_server_takes_no_more() -> None:
    gate, _ = make_gate()
    gate.guard.closing = True
    status, headers, answer = ask(gate, "/gradio_api/queue/join", "POST", parts=[b"{}"])
    assert status == 503 and "retry-after" in headers and "restarted" in answer["detail"]
    assert ask(gate, "/gradio_api/cancel", "POST", parts=[b"{}"])[0] == 200


def test_answers_carry_protecting_headers() -> None:
    gate, _ = make_gate()
    _, page, _ = ask(gate, "/")
    _, file, _ = ask(gate, "/gradio_api/file=/tmp/x.svg")
    _, refused, _ = ask(gate, "/unknown")
    assert page["content-security-policy"] == refused["content-security-policy"] == CONTENT_POLICY
    assert file["content-security-policy"] == FILE_POLICY and file["cache-control"] == "private, no-store"
    assert all(one["x-content-type-options"] == "nosniff" for one in (page, file, refused))

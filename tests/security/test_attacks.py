"""What hostile guests ask of the running server, each attempt refused. SECURITY.md lists them."""

import hashlib
import json
import re
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.helpers.guests import SECRET, Guest, listening, marked
from tests.helpers.pace import scaled
from tests.helpers.pictures import encoded, photo
from tests.helpers.server import ROOT, AppProcess

NAMES_OF_A_VISITOR = ("holiday in rome", "ann.jpg")
TAKE_FILES = ("image", "file", "uploadbutton", "api")


# Reading files -----------------------------------------------------------------------------------------------------


def paths_to(app: AppProcess) -> list[str]:
    """Ways to name files that are not to be served."""
    secret = str(app.folder / "secret.txt")
    own = next(app.temp.glob("gendrpix-server-*"))
    deep = "/".join([".."] * 12)
    return [
        secret,
        quote(secret, safe=""),
        f"{own}/served/../../../secret.txt",
        f"{own}/served/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        f"{own}/served/..%2f..%2f..%2fsecret.txt",
        f"{own}/served/%252e%252e/%252e%252e/%252e%252e/secret.txt",
        f"{own}/lock",
        f"{own}/served",
        f"{own}/work/../lock",
        f"{deep}{secret}",
        f"./{deep}{secret}",
        f"/{secret}",
        "app.py",
        "./README.md",
        str(ROOT / "pyproject.toml"),
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd/app.py",
        "/dev/zero",
        f"{secret}%00.png",
        f"{own}/served\\..\\..\\..\\secret.txt",
        "C:\\Windows\\win.ini",
        "~/.bashrc",
        "",
    ]


def test_no_file_but_the_pages_own_is_served(app: AppProcess, guest: Guest) -> None:
    for path in paths_to(app):
        for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/static/", "/assets/", "/gradio_api/"):
            reply = guest.ask("GET", f"{route}{path}")
            assert reply.status >= 400 and SECRET not in reply.body and b"root:" not in reply.body, (route, path)


def test_a_link_in_the_served_folder_leads_nowhere(app: AppProcess, guest: Guest) -> None:
    [served] = app.temp.glob("gendrpix-server-*/served")
    link = served / "link.png"
    link.symlink_to(app.folder / "secret.png")
    try:
        reply = guest.ask("GET", f"/gradio_api/file={link}")
        assert reply.status >= 400
    finally:
        link.unlink()


def test_an_uploads_address_cannot_be_guessed(app: AppProcess, guest: Guest) -> None:
    """A result's PNG tells the SHA-256 of its photo; that must not lead to the photo."""
    data = encoded(photo(31, 21))
    [path] = guest.upload(data, "ann.jpg").json
    digest = hashlib.sha256(data).hexdigest()
    assert digest not in path and re.search(r"/[0-9a-f]{64}/", path)
    guessed = re.sub(r"/[0-9a-f]{64}/", f"/{digest}/", path)
    assert guest.ask("GET", f"/gradio_api/file={guessed}").status == 403
    assert guest.ask("GET", f"/gradio_api/file={path}").body == data  # whoever uploaded it was told the address


def test_no_path_of_the_machine_is_read_as_a_photo(app: AppProcess, guest: Guest) -> None:
    """Every function of the page and every endpoint that takes a file, with a path in its place."""
    config = guest.config
    kinds = {one["id"]: one["type"] for one in config["components"]}
    secret = str(app.folder / "secret.png")
    tried = 0
    for function in config["dependencies"]:
        takes = [
            n for n, one in enumerate(function["inputs"]) if kinds[one] in ("image", "file", "uploadbutton", "api")
        ]
        for place in takes[:1] if function["queue"] is not False else []:
            for file in (marked(secret), {"path": secret}, {"value": marked(secret)}):
                data: list[Any] = [None] * len(function["inputs"])
                data[place] = file
                done = guest.call(function["id"], data)
                told = json.dumps(done)
                assert "refused" in done or not done["success"], (function["api_name"], file, told)
                assert "20 pixels" not in told
                tried += 1
    assert tried > 30


# Addresses ---------------------------------------------------------------------------------------------------------


def test_the_server_asks_no_other_machine(app: AppProcess, guest: Guest) -> None:
    with listening() as (port, asked):
        hosts = ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "2130706433", "0x7f.1", "127.1", "user@127.0.0.1"]
        addresses = [f"http://{host}:{port}/x.png" for host in hosts]
        addresses += [f"HTTP://127.0.0.1:{port}/x.png", f" http://127.0.0.1:{port}/", f"//127.0.0.1:{port}/x.png"]
        addresses += [
            f"http://127.0.0.1:{port}/gradio_api/file=/etc/passwd",
            "http://169.254.169.254/latest/meta-data/",
        ]
        addresses += ["https://huggingface.co/x.png", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"]
        for address in addresses:
            for file in (marked(address), {**marked("/tmp/x.png"), "url": address}, {"path": address, "url": address}):
                done = guest.press("photo", "change", photo=file)
                assert "refused" in done or not done["success"], address
            for route in ("/gradio_api/file=", "/gradio_api/file=%20", "/gradio_api/proxy="):
                assert guest.ask("GET", route + quote(address, safe=":/@[]")).status >= 400, address
        assert asked == []


def test_endpoints_for_programs_ask_no_other_machine_either(guest: Guest) -> None:
    with listening() as (port, asked):
        file = marked(f"http://127.0.0.1:{port}/x.png")
        for path in ("/gradio_api/call/restore", "/gradio_api/run/restore", "/gradio_api/call/compare"):
            assert guest.ask("POST", path, {"data": [file]}).status >= 400
        assert guest.ask("POST", "/gradio_api/call/v2/restore", {"photo": file}).status == 400
        call = {"name": "restore", "arguments": {"photo": file["path"]}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        accept = {"Accept": "application/json, text/event-stream"}
        reply = guest.ask("POST", "/gradio_api/mcp/", message, accept)
        assert b'"isError":true' in reply.body.replace(b" ", b"") or reply.status >= 400
        assert asked == []


# Requests ----------------------------------------------------------------------------------------------------------


def test_oversized_and_odd_json(guest: Guest) -> None:
    join = "/gradio_api/queue/join"
    index, _ = guest.find("photo", "change")
    asked = {"session_hash": "x", "fn_index": index}
    bodies = {
        413: [json.dumps({**asked, "data": ["x" * 200_000]}).encode()],
        400: [
            b'{"data":' + b"[" * 40_000,
            b'{"data": ' + b'{"a":' * 15_000 + b"1" + b"}" * 15_001,
            b'{"fn_index": 1' + b"0" * 5000 + b"}",
            b"null",
            b"\xff\xfe{}",
            b"",
            json.dumps({**asked, "fn_index": -1}).encode(),
            json.dumps({**asked, "fn_index": True, "session_hash": 5}).encode(),
            json.dumps({**asked, "session_hash": "../../x"}).encode(),
        ],
    }
    for status, many in bodies.items():
        for body in many:
            reply = guest.ask("POST", join, body, {"Content-Type": "application/json"})
            assert reply.status == status, body[:60]
            assert reply.json["detail"].endswith(".")
    for data in ([], [1] * 50, [{"a": 1}, "x"], [[[]], None], "x", 5):
        deadline = time.monotonic() + 60
        while (done := guest.ask("POST", join, {**asked, "data": data})).status == 429:  # earlier ones still wait
            assert time.monotonic() < deadline, done.body
            time.sleep(0.5)
        assert done.status in (200, 422)


def test_header_tricks(app: AppProcess, guest: Guest) -> None:
    evil = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/evil.example",
        "X-Gradio-Server": "http://evil.example",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "/gradio_api/proxy=evil.example",
    }
    for path in ("/", "/config", "/gradio_api/info"):
        assert b"evil.example" not in guest.ask("GET", path, headers=evil).body
    for host in ("evil.example", "evil.example:80", f"localhost.evil.example:{app.port}"):
        assert guest.ask("GET", "/config", headers={"Host": host}).status == 421
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert (
        "access-control-allow-origin" not in guest.ask("OPTIONS", "/gradio_api/queue/join", headers=preflight).headers
    )
    raw = [
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 50,
    ]
    for request in raw:
        with socket.create_connection(("127.0.0.1", app.port), timeout=30) as connection:
            connection.sendall(request)
            assert re.match(rb"HTTP/1.1 4\d\d ", connection.recv(2000)), request[:60]


def test_a_flood_from_one_client_stops_nobody_else(app: AppProcess, guest: Guest) -> None:
    statuses = [guest.ask("GET", "/robots.txt").status]
    while statuses[-1] == 200 and len(statuses) < 3000:  # some of the rate comes back while it is used up
        statuses.append(guest.ask("GET", "/robots.txt").status)
    refused = [guest.ask("GET", "/", headers={"X-Forwarded-For": f"9.9.9.{n}"}) for n in range(3)]
    assert statuses[-1] == 429 and len(statuses) > 400
    assert any(one.status == 429 and int(one.headers["retry-after"]) >= 1 for one in refused)
    assert Guest(app, "127.0.3.1").ask("GET", "/robots.txt").status == 200


def test_one_client_cannot_hold_all_connections(app: AppProcess, guest: Guest) -> None:
    streams = [guest.send("GET", f"/gradio_api/heartbeat/{n:012d}") for n in range(10)]
    assert guest.ask("GET", "/robots.txt").status == 429
    assert Guest(app, "127.0.3.2").ask("GET", "/robots.txt").status == 200
    for stream in streams:
        stream.connection.close()
    deadline = time.monotonic() + 40
    while guest.ask("GET", "/robots.txt").status == 429:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_closed_routes(guest: Guest) -> None:
    closed = ["process_recording", "vibe-code", "deep_link?session_hash=x", "component_server", "stream/x", "runs"]
    for path in [*(f"/gradio_api/{one}" for one in closed), "/monitoring", "/login", "/docs", "/openapi.json"]:
        for method in ("GET", "POST"):
            assert guest.ask(method, path, b"{}").status == 404, path
    photo_file = guest.uploaded(encoded(photo(20, 20)))
    assert guest.ask("POST", "/gradio_api/run/restore", {"data": [photo_file]}).status == 404  # past the queue


# Uploads -----------------------------------------------------------------------------------------------------------


def test_names_of_uploads_are_no_paths(app: AppProcess, guest: Guest) -> None:
    [served] = app.temp.glob("gendrpix-server-*/served")
    before = {path for path in app.folder.rglob("*") if not path.is_relative_to(served)}
    names = ["../../../evil.png", "/etc/evil.png", "..", ".", "a/../../evil.png", "..\\..\\evil.png", "x" * 3000]
    names += [
        "evil\0.png",
        "<img src=x onerror=alert(1)>.png",
        ".htaccess",
        "con",
        "%2e%2e%2fevil.png",
        "\u202egnp.exe",
    ]
    for name in names:
        reply = guest.upload(encoded(photo(20, 20)), name)
        if reply.status == 200:
            [path] = reply.json
            assert Path(path).resolve().is_relative_to(served) and "<" not in path and "\0" not in path, name
    assert {path for path in app.folder.rglob("*") if not path.is_relative_to(served)} == before


def test_uploads_are_bounded_and_leave_nothing(app: AppProcess, guest: Guest) -> None:
    [served] = app.temp.glob("gendrpix-server-*/served")

    def files() -> set[Path]:
        return {path for path in served.rglob("*") if path.is_file()}

    before = files()
    assert guest.upload(bytes(1_500_000)).status == 413  # one file
    body = b"--x\r\n" + b'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + bytes(900_000)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert guest.ask("POST", "/gradio_api/upload", body * 3, form).status == 413  # together
    chunked = guest.ask("POST", "/gradio_api/upload", iter([body] * 3), form)  # no length announced
    assert chunked.status in (400, 413)
    nonsense = guest.ask("POST", "/gradio_api/upload", b"--x\r\nnonsense", form)
    assert nonsense.status == 400 or nonsense.json == []
    with socket.create_connection(("127.0.0.1", app.port)) as connection:  # and gone in the middle
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: {form['Content-Type']}\r\n"
        connection.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n" + body[:5000])
        time.sleep(0.5)
    deadline = time.monotonic() + 30
    while files() != before:
        assert time.monotonic() < deadline, files() - before
        time.sleep(0.2)


def test_files_that_are_no_pictures_are_not_shown(guest: Guest) -> None:
    for name, data in (("x.html", b"<script>alert(1)</script>"), ("x.svg", b"<svg onload='alert(1)'/>")):
        [path] = guest.upload(data, name).json
        reply = guest.ask("GET", f"/gradio_api/file={path}")
        assert reply.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "html" not in reply.headers["content-type"] and "svg" not in reply.headers["content-type"]


# Jobs --------------------------------------------------------------------------------------------------------------


def long_job(guest: Guest) -> str:
    """Start a job of many seconds; its id."""
    file = guest.uploaded(encoded(photo(300, 300)), "holiday in rome.png")
    reply = guest.ask("POST", "/gradio_api/call/v2/restore", {"photo": file, "restorer": "gendr", "scale": 8})
    assert reply.status == 200, reply
    return str(reply.json["event_id"])


def wait_until(app: AppProcess, seconds: float = 60.0, **expected: int) -> None:
    deadline = time.monotonic() + scaled(seconds)
    while any(app.health()[name] != value for name, value in expected.items()):
        assert time.monotonic() < deadline, app.health()
        time.sleep(0.1)


@pytest.mark.deadline
def test_jobs_of_a_client_that_left_end(app: AppProcess, guest: Guest) -> None:
    event = long_job(guest)
    answer = guest.send("GET", f"/gradio_api/call/restore/{event}")
    wait_until(app, running=1)
    answer.connection.close()
    wait_until(app, running=0, waiting=0)
    assert '"message": "cancelled"' in app.log.read_text()


@pytest.mark.deadline
def test_jobs_that_nobody_asks_about_end(app: AppProcess, guest: Guest) -> None:
    long_job(guest)
    wait_until(app, running=0, waiting=0)
    assert '"reason": "unheard"' in app.log.read_text()


def test_a_client_cannot_fill_the_queue(app: AppProcess, guest: Guest) -> None:
    event = long_job(guest)
    answer = guest.send("GET", f"/gradio_api/call/restore/{event}")
    photo_file = guest.uploaded(encoded(photo(20, 20)))
    restore = {"photo": photo_file}
    statuses = [guest.ask("POST", "/gradio_api/call/v2/restore", restore).status for _ in range(6)]
    assert statuses == [200] * 3 + [429] * 3
    other = Guest(app, "127.0.3.3")
    assert other.press("photo", "change", photo=other.uploaded(encoded(photo(20, 20))))["success"]
    answer.connection.close()
    wait_until(app, running=0, waiting=0)


def test_sessions_are_apart(app: AppProcess, guest: Guest) -> None:
    """Another's session or job that one does not know the name of gives nothing."""
    for path in ("queue/data?session_hash=unknown", "call/restore/" + "0" * 32, "heartbeat/../queue/data"):
        reply = guest.send("GET", f"/gradio_api/{path}")
        with closing(reply.connection):
            assert reply.status >= 400 or b"not_found" in (first := reply.readline()) or b"error" in first


# Words -------------------------------------------------------------------------------------------------------------


def test_the_log_names_no_visitor(app: AppProcess) -> None:
    """After all that came before it: no address, no file name, no path of a visitor's; every line is JSON."""
    lines = app.log.read_text().splitlines()
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(logged) > 20 and all(set(one) >= {"time", "level", "logger", "message"} for one in logged)
    for line in lines:
        assert not any(name in line for name in (*NAMES_OF_A_VISITOR, "/served/", "evil", "secret")), line
        own = "is ready at" in line or "MCP" in line or "Streamable" in line
        assert own or not re.search(r"\b127\.\d+\.\d+\.\d+\b", line), line


def test_sigterm_lets_the_running_job_finish(app: AppProcess, guest: Guest) -> None:
    """The last one: the running job's result can be fetched, the waiting one is told, nothing is left."""
    long = {"photo": guest.uploaded(encoded(photo(250, 250))), "restorer": "gendr", "scale": 4}
    first = guest.ask("POST", "/gradio_api/call/v2/restore", long)
    second = guest.ask("POST", "/gradio_api/call/v2/restore", {"photo": guest.uploaded(encoded(photo(20, 20)))})
    answers = [guest.send("GET", f"/gradio_api/call/restore/{one.json['event_id']}") for one in (first, second)]
    wait_until(app, running=1, waiting=1)
    codes: list[int] = []
    stopping = threading.Thread(target=lambda: codes.append(app.stop()))
    stopping.start()
    events = [answer.read().decode() for answer in answers]
    assert "event: complete" in events[0]
    [result] = json.loads(events[0].rpartition("data: ")[2])
    assert guest.ask("GET", f"/gradio_api/file={result['path']}").body.startswith(b"\x89PNG")
    assert "event: error" in events[1] and "being restarted" in events[1]
    stopping.join()
    assert codes == [0]
    assert not app.files()

"""A hostile guest: raw requests to a running server, exactly as written, from any loopback address."""

from __future__ import annotations

import http.client
import http.server
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.helpers.server import AppProcess

TIMEOUT_S = 120
SECRET = b"a line that no visitor may read"
SETTINGS = {
    "GENDRPIX_LOG_FORMAT": "json",
    "GENDRPIX_MAX_FILE_MB": "1",
    "GENDRPIX_MAX_UPLOAD_MB": "2",
    "GENDRPIX_MAX_JSON_KB": "100",
    "GENDRPIX_MAX_PIXELS": "1000000",
    "GENDRPIX_MAX_REQUESTS_PER_MINUTE": "400",
    "GENDRPIX_MAX_JOBS_PER_CLIENT": "4",
    "GENDRPIX_MAX_OPEN_PER_CLIENT": "10",
    "GENDRPIX_UNHEARD_S": "8",
    "GENDRPIX_STOP_S": "100",
    "GENDRPIX_MIN_FREE_MB": "0",
}
"""Small limits, so that reaching them takes little."""


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Guest:
    """Asks without the help of a browser: nothing is normalised, checked or followed."""

    def __init__(self, app: AppProcess, source: str = "127.0.0.1") -> None:
        self.app = app
        self.source = source
        self.session = secrets.token_hex(6)

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Send a request; the open answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.app.port, timeout=TIMEOUT_S, source_address=(self.source, 0)
        )
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.connection = connection
        return answer

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request; the whole answer. A dict goes as JSON."""
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        answer = self.send(method, path, body, headers)
        with closing(answer.connection):
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, answer.read())

    def upload(self, data: bytes, name: str = "photo.png") -> Reply:
        """Upload a file under that name, as it stands."""
        border = secrets.token_hex(8)
        head = f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{border}--\r\n".encode()
        return self.ask("POST", "/gradio_api/upload", body, {"Content-Type": f"multipart/form-data; boundary={border}"})

    def uploaded(self, data: bytes, name: str = "photo.png", orig_name: str | None = None) -> dict[str, Any]:
        """Upload a file; what a call names it by."""
        [path] = self.upload(data, name).json
        return marked(path, orig_name or name)

    def join(self, index: int, data: list[Any]) -> Reply:
        """Put a job into the queue."""
        body = {"session_hash": self.session, "fn_index": index, "data": data}
        return self.ask("POST", "/gradio_api/queue/join", body)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the queue tells this session, until all its jobs are over."""
        answer = self.send("GET", f"/gradio_api/queue/data?session_hash={self.session}")
        with closing(answer.connection):
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def call(self, index: int, data: list[Any]) -> dict[str, Any]:
        """Do a job to its end: the last message. {"refused": status} where it was not taken."""
        joined = self.join(index, data)
        if joined.status != 200:
            return {"refused": joined.status, "said": joined.json["detail"]}
        completed = [one for one in self.messages() if one["msg"] == "process_completed"]
        return completed[-1]

    # The page's functions ------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, Any]:
        """The page's widgets and functions."""
        return dict(self.ask("GET", "/config").json)

    def find(self, elem_id: str, event: str) -> tuple[int, list[dict[str, Any]]]:
        """(the function of a widget's event, the widgets that it reads)."""
        config = self.config
        widgets = {one["id"]: one for one in config["components"]}
        for function in config["dependencies"]:
            for widget, name in function["targets"]:
                if name == event and widgets[widget]["props"].get("elem_id") == elem_id:
                    return function["id"], [widgets[one] for one in function["inputs"]]
        raise LookupError(f"{elem_id} has no {event}")

    def press(self, elem_id: str, event: str = "click", **given: Any) -> dict[str, Any]:
        """Do what a widget's event does, with the widgets as the page shows them at first; `given`: others, by id."""
        index, widgets = self.find(elem_id, event)
        data = []
        for widget in widgets:
            name = str(widget["props"].get("elem_id") or "").replace("-", "_")
            data.append(given.get(name, widget["props"].get("value")))
        return self.call(index, data)


def marked(path: str, orig_name: str = "photo.png") -> dict[str, Any]:
    """A file as the page names it to Gradio."""
    return {"path": path, "orig_name": orig_name, "meta": {"_type": "gradio.FileData"}}


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """(port, the paths that were asked for) of a web server on this machine that must not be asked for anything."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()

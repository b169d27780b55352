"""A client of the page's queue for many users at once: plain HTTP over asyncio, each user from an address of its own.

On Linux all of 127.0.0.0/8 is this machine, so every simulated user can have an address, as visitors have.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class AnswerError(Exception):
    """The server said no: the HTTP status (0: within a stream) and its own sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status}: {sentence}")
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A named endpoint as /config and /info describe it."""

    index: int
    names: tuple[str, ...]
    defaults: tuple[Any, ...]

    def arguments(self, **given: Any) -> list[Any]:
        """The data of a call, the defaults where nothing is given."""
        return [given.get(name, default) for name, default in zip(self.names, self.defaults, strict=True)]


class Client:
    """One visitor. HTTP/1.0, one connection a request: what is read until its end is the answer."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.port = port
        self.source = source
        self.session = secrets.token_hex(6)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.source, 0))

    async def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request and read the answer's head: its status, and the stream of its body."""
        reader, writer = await self.connect()
        try:
            head = f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\n"
            if body:
                head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()
            status = (await reader.readline()).split()
            while (await reader.readline()).strip():
                pass
            if len(status) < 2:
                raise ConnectionResetError("the connection ended before an answer")
            return int(status[1]), reader, writer
        except BaseException:
            writer.close()
            raise

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The answer's body. Raises AnswerError for every status but 200."""
        status, reader, writer = await self.send(method, path, body, kind)
        try:
            answer = await reader.read()
        finally:
            writer.close()
        if status != 200:
            raise AnswerError(status, sentence_of(answer))
        return answer

    async def find_endpoint(self, name: str) -> Endpoint:
        """The endpoint of that name."""
        config = json.loads(await self.ask("GET", "/config"))
        info = json.loads(await self.ask("GET", "/gradio_api/info"))
        [index] = [one["id"] for one in config["dependencies"] if one["api_name"] == name]
        parameters = info["named_endpoints"][f"/{name}"]["parameters"]
        return Endpoint(
            index=index,
            names=tuple(one["parameter_name"] for one in parameters),
            defaults=tuple(one.get("parameter_default") for one in parameters),
        )

    async def upload(self, data: bytes, name: str = "photo.png") -> str:
        """Upload a file; its path on the server."""
        border = secrets.token_hex(16)
        head = f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{border}--\r\n".encode()
        answer = await self.ask("POST", "/gradio_api/upload", body, f"multipart/form-data; boundary={border}")
        [path] = json.loads(answer)
        return str(path)

    async def join(self, index: int, data: list[Any]) -> str:
        """Put a job into the queue; its id."""
        body = {"session_hash": self.session, "fn_index": index, "data": data}
        return str(json.loads(await self.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode()))["event_id"])

    async def listen(self, event_id: str) -> AsyncIterator[Json]:
        """The messages about a job until it is over. Raises AnswerError if the server ends the stream in words."""
        status, reader, writer = await self.send("GET", f"/gradio_api/queue/data?session_hash={self.session}")
        try:
            if status != 200:
                raise AnswerError(status, sentence_of(await reader.read()))
            async for line in reader:
                if not line.startswith(b"data: "):
                    continue
                message: Json = json.loads(line[6:])
                if message["msg"] == "unexpected_error":
                    raise AnswerError(0, str(message["message"]))
                if message.get("event_id") == event_id:
                    yield message
                    if message["msg"] == "process_completed":
                        return
            raise ConnectionResetError("the stream ended before the job")
        finally:
            writer.close()

    async def fetch(self, path: str) -> bytes:
        """A result's file."""
        return await self.ask("GET", f"/gradio_api/file={urllib.parse.quote(path)}")


def uploaded(path: str) -> Json:
    """An uploaded file as a call's argument."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def output_of(message: Json) -> list[Any]:
    """The data of a completed job. Raises AnswerError with its sentence where it failed."""
    if not message["success"]:
        raise AnswerError(0, str(message["output"].get("error")))
    return list(message["output"]["data"])


def sentence_of(answer: bytes) -> str:
    """What an answer says in words."""
    try:
        value = json.loads(answer)
    except ValueError:
        return answer[:200].decode("utf-8", "replace")
    return str(value.get("detail", value)) if isinstance(value, dict) else str(value)

"""Many users on the real app: `python -m benchmarks.load --users 100 --seconds 600`.

Each user has a picture of its own, so that a wrong or crossed result shows exactly: what comes back is compared with
the pixels that the library itself makes of that picture. With --disconnect, --garbage and --kills some of them leave in
the middle, send rubbish, and the server is killed and started again. With --soak the run ends after so many
restorations. Everything goes over loopback; no other machine is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gendrpix import load_restorer
from gendrpix.devices import pick_dtype
from tests.helpers.clients import AnswerError, Client, Endpoint, output_of, uploaded
from tests.helpers.server import AppProcess

SCALE = 2.0
SAMPLE_S = 5.0
PAUSE_S = 0.5
APART_S = 0.1
BLOCKS, T_95 = 12, 2.228
"""Stretches that memory is averaged over, and Student's t for two less of them."""
KEEP_S, SOAK_KEEP_S = 3600, 120
"""How long the server keeps files: in a soak shorter than the soak, else longer than any job waits."""
CLEAR = (
    "server is being restarted",
    "Queue is full",
    "was not uploaded",
    "cannot be accessed",
    "is not there",
    "jobs waiting",
    "Server stopped",
    "was dropped",
)
"""Errors in words that a user may get while the server is killed or full."""


@dataclass(kw_only=True)
class Tally:
    """What the users saw."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    left: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    unclear: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    jobs: list[tuple[float, float, float]] = field(default_factory=list)
    """(sent, accepted, started), seconds."""
    memory: list[tuple[float, int, float]] = field(default_factory=list)
    """(seconds, right results, resident MB)."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A user's picture and what must come back."""

    png: bytes
    expected: bytes


def make_subjects(number: int) -> list[Subject]:
    """A picture for each user, 9 to 24 pixels a side, no two alike, and its restored pixels."""
    device = torch.device("cpu")
    restorer = load_restorer("gendr-pix", device=device, dtype=pick_dtype("auto", device))  # as the page computes
    subjects = []
    for user in range(number):
        draw = np.random.default_rng(user)
        height, width = draw.integers(9, 25, 2)
        picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        expected = restorer(picture, scale=SCALE, guidance=None).images[0].tobytes()
        subjects.append(Subject(png=buffer.getvalue(), expected=expected))
    return subjects


class Load:
    """One run: the app, its users, what they saw."""

    def __init__(self, options: argparse.Namespace, app: AppProcess, subjects: list[Subject]) -> None:
        self.options = options
        self.app = app
        self.subjects = subjects
        self.tally = Tally()
        self.began = time.monotonic()
        self.killed_cpu_s = 0.0
        self.endpoint = Endpoint(index=0, names=(), defaults=())

    def over(self) -> bool:
        """Whether users start nothing more."""
        if self.options.soak:
            return self.tally.right >= self.options.soak
        return time.monotonic() - self.began > self.options.seconds

    async def run(self) -> None:
        """All users at once, beside them the sampling of memory and the kills."""
        self.endpoint = await Client(self.app.port).find_endpoint("restore")
        self.began = time.monotonic()
        users = [asyncio.create_task(self.user(number)) for number in range(self.options.users)]
        others = [asyncio.create_task(self.sample()), asyncio.create_task(self.kill_often())]
        await asyncio.gather(*users)
        for task in others:
            task.cancel()

    def roles(self) -> list[Callable[..., Any]]:
        """What each user does, in the shares that were asked for."""
        number = self.options.users
        leaving, sending = round(number * self.options.disconnect), round(number * self.options.garbage)
        return [self.leave_early] * leaving + [self.send_garbage] * sending + [self.restore] * number

    async def user(self, number: int) -> None:
        """One user until the end: a job, then the next one."""
        role = self.roles()[number]
        draw = random.Random(number)
        client = Client(self.app.port, f"127.0.{1 + number // 200}.{1 + number % 200}")
        turn = 0
        while not self.over():
            turn += 1
            if turn % 10 == 0:  # as if the page had been loaded again
                client = Client(self.app.port, client.source)
            try:
                await role(client, self.subjects[number], draw)
            except AnswerError as error:
                self.refuse(error)
                await asyncio.sleep(PAUSE_S)
            except OSError:
                self.tally.lost += 1
                await asyncio.sleep(PAUSE_S)

    def refuse(self, error: AnswerError) -> None:
        """Count an error that a user got in words; one that is no sentence of ours is unclear."""
        known = next((words for words in CLEAR if words in error.sentence), None)
        if known:
            self.tally.refused[known] += 1
        else:
            self.tally.unclear.append(str(error))

    async def restore(self, client: Client, subject: Subject, draw: random.Random) -> None:
        """A restoration, waited for and compared."""
        path = await client.upload(subject.png)
        sent = time.monotonic()
        event = await client.join(self.endpoint.index, self.data(path))
        accepted = started = time.monotonic()
        files: list[Any] = []
        async for message in client.listen(event):
            if message["msg"] == "process_starts":
                started = time.monotonic()
            elif message["msg"] == "process_completed":
                files = output_of(message)
        done = time.monotonic()
        result = await client.fetch(files[0]["path"])
        self.compare(result, subject)
        self.tally.latencies_s.append(done - sent)
        self.tally.jobs.append((sent, accepted, started))

    def compare(self, result: bytes, subject: Subject) -> None:
        """Count a result, and whose it is if it is not this user's."""
        try:
            with Image.open(io.BytesIO(result)) as image:
                pixels = image.tobytes()
        except OSError:
            self.tally.wrong.append("half-written")
            return
        if pixels == subject.expected:
            self.tally.right += 1
        else:
            crossed = any(pixels == other.expected for other in self.subjects)
            self.tally.wrong.append("crossed" if crossed else "wrong")

    async def leave_early(self, client: Client, subject: Subject, draw: random.Random) -> None:
        """Go away while uploading, right after joining, while waiting, or while the job runs."""
        moment = draw.choice(("upload", "joined", "waiting", "running"))
        self.tally.left += 1
        if moment == "upload":
            _, writer = await client.connect()
            writer.write(b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n")
            writer.write(
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; "
            )
            writer.write(b'name="files"; filename="a.png"\r\n\r\n' + subject.png)
            await writer.drain()
            await asyncio.sleep(draw.random())
            writer.close()
            return
        event = await client.join(self.endpoint.index, self.data(await client.upload(subject.png)))
        if moment == "joined":
            return
        stream = client.listen(event)
        async with contextlib.aclosing(stream):  # closing it closes the connection
            async for message in stream:
                if message["msg"] == ("estimation" if moment == "waiting" else "process_starts"):
                    break

    async def send_garbage(self, client: Client, subject: Subject, draw: random.Random) -> None:
        """Rubbish of a kind; it must be refused in words and never answered with a picture."""
        kind = draw.choice(("bytes", "json", "arguments", "function", "file", "path", "deep"))
        join = "/gradio_api/queue/join"
        await asyncio.sleep(draw.random())
        try:
            if kind == "bytes":
                await client.ask("POST", join, draw.randbytes(200))
            elif kind == "json":
                await client.ask("POST", join, json.dumps([1, {"fn_index": "x"}]).encode())
            elif kind == "deep":
                await client.ask("POST", join, b'{"data":' + b"[" * 100_000 + b"}")
            elif kind == "function":
                await client.join(10_000, [])
            else:
                data = self.data("/etc/hostname" if kind == "path" else await client.upload(draw.randbytes(300)))
                if kind == "arguments":
                    data = data[:1] + [{"path": 7}, None, "x", [], -1, 9, 1e99][: len(data) - 1]
                event = await client.join(self.endpoint.index, data)
                async for message in client.listen(event):
                    if message["msg"] == "process_completed":
                        self.tally.wrong.append(f"garbage accepted: {kind} {output_of(message)}")
                return
            self.tally.unclear.append(f"garbage taken: {kind}")
        except AnswerError as error:
            if error.status >= 500 and "Queue is full" not in error.sentence:
                self.tally.unclear.append(f"{kind}: {error}")
            self.tally.refused["garbage"] += 1

    def data(self, path: str) -> list[Any]:
        """The arguments of a restoration."""
        return self.endpoint.arguments(photo=uploaded(path), restorer="gendr-pix*", scale=SCALE, guidance=None)

    async def sample(self) -> None:
        """Write down the server's memory now and then, and say how it goes."""
        said = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            now = time.monotonic() - self.began
            with contextlib.suppress(OSError, ValueError):  # between a kill and the next start there is none
                self.tally.memory.append((now, self.tally.right, self.app.resident_mb()))
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    print(f"{now:.0f} s: {self.tally.right} right, {self.tally.memory[-1][2]:.0f} MB", flush=True)

    async def kill_often(self) -> None:
        """Kill the server and start it again, as often as was asked, evenly over the time."""
        for _ in range(self.options.kills):
            await asyncio.sleep(self.options.seconds / (self.options.kills + 1))
            self.killed_cpu_s += self.app.cpu_s()
            await asyncio.to_thread(self.app.kill)
            print(f"killed; {len(self.app.files())} files left behind", flush=True)
            await asyncio.to_thread(self.app.start)
            print(f"started again; {len(self.app.files())} files now", flush=True)


def count_overtaken(jobs: list[tuple[float, float, float]]) -> int:
    """Jobs that began after one that was sent when they had been accepted already.

    The moments are those at which this process learnt of them, so jobs closer than APART_S are not judged.
    """
    by_sent = sorted(jobs)
    first_start = [float("inf")]  # of the jobs from there on, the last one first
    for _, _, started in reversed(by_sent):
        first_start.append(min(started, first_start[-1]))
    sent_s = [sent for sent, _, _ in by_sent]
    later = [first_start[len(jobs) - bisect.bisect_right(sent_s, accepted + APART_S)] for _, accepted, _ in jobs]
    return sum(first < started - APART_S for first, (_, _, started) in zip(later, jobs, strict=True))


def describe_memory(samples: list[tuple[float, int, float]]) -> str:
    """The resident memory at the start, middle and end, and its slope over the second half with a 95% interval.

    Neighbouring samples are not independent, so the line is put through the means of BLOCKS stretches.
    """
    done = np.array([sample[1] for sample in samples], float) / 1000
    size = np.array([sample[2] for sample in samples])
    ends = f"resident memory {size[0]:.0f} MB at first, {size[len(size) // 2]:.0f} in the middle, "
    ends += f"{size[-1]:.0f} at the end (most {size.max():.0f})"
    second = slice(len(samples) // 2, None)
    if len(done[second]) < 2 * BLOCKS or done[second][0] == done[-1]:
        return f"{ends}; too few samples for a slope"
    x, y = (np.array([part.mean() for part in np.array_split(values[second], BLOCKS)]) for values in (done, size))
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    residual = y - y.mean() - slope * x
    error = T_95 * float(np.sqrt((residual**2).sum() / (BLOCKS - 2) / (x * x).sum()))
    interval = f"95% interval {slope - error:+.2f} to {slope + error:+.2f}"
    return f"{ends}; second half: {slope:+.2f} MB per 1,000 results, {interval}"


def report(load: Load, seconds: float, cpu_s: float) -> bool:
    """Print what was seen; whether nothing was wrong."""
    tally = load.tally
    print(f"{tally.right} restorations right in {seconds:.0f} s; wrong, crossed or half-written: {len(tally.wrong)}")
    if tally.latencies_s:
        p50, p95, p99 = np.percentile(tally.latencies_s, [50, 95, 99])
        print(f"latency p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s; the server's processor time {cpu_s:.0f} s")
    print(f"left early {tally.left}; connections lost {tally.lost}; refused in words {dict(tally.refused)}")
    print(f"overtaken in the queue: {count_overtaken(tally.jobs)} of {len(tally.jobs)}")
    if not load.options.kills:  # each server begins anew
        print(describe_memory(tally.memory))
    for title, lines in (("WRONG", tally.wrong), ("UNCLEAR", tally.unclear)):
        for line, times in Counter(lines).most_common(10):
            print(f"{title} {times} x {line}")
    return not tally.wrong and not tally.unclear


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--soak", type=int, default=0, help="end after this many right results instead")
    parser.add_argument("--disconnect", type=float, default=0.0, help="share of users that leave in the middle")
    parser.add_argument("--garbage", type=float, default=0.0, help="share of users that send rubbish")
    parser.add_argument("--kills", type=int, default=0, help="times the server is killed and started again")
    return parser.parse_args()


def measure(options: argparse.Namespace, app: AppProcess, subjects: list[Subject]) -> bool:
    """Start the app, let the users at it, stop it; whether all was as it should be."""
    app.start()
    app.wait_until_loaded()
    own, cpu_s = len(app.files()), app.cpu_s()
    load = Load(options, app, subjects)
    asyncio.run(load.run())
    fine = report(load, time.monotonic() - load.began, load.killed_cpu_s + app.cpu_s() - cpu_s)
    deadline = time.monotonic() + 6 * SOAK_KEEP_S
    while time.monotonic() < deadline and (sum(jobs_of(app)) or (options.soak and len(app.files()) > own)):
        time.sleep(2)
    left, jobs = len(app.files()) - own, sum(jobs_of(app))
    if options.soak:
        print(f"files left when all are older than {SOAK_KEEP_S} s: {left}")
    code = app.stop()
    print(f"jobs left {jobs}; stopped by SIGTERM: exit code {code}, files left {len(app.files())}")
    return fine and not (options.soak and left) and not jobs and not code and not app.files()


def jobs_of(app: AppProcess) -> tuple[int, int]:
    """(waiting, running)."""
    health = app.health()
    return health["waiting"], health["running"]


def main() -> int:
    options = read_options()
    subjects = make_subjects(options.users)
    settings = {
        "GENDRPIX_MAX_QUEUE": str(2 * options.users),
        "GENDRPIX_KEEP_S": str(SOAK_KEEP_S if options.soak else KEEP_S),
        "GENDRPIX_LOG_FORMAT": "json",
    }
    with tempfile.TemporaryDirectory(prefix="gendrpix-load-") as folder:
        app = AppProcess(Path(folder), settings)
        try:
            fine = measure(options, app, subjects)
        finally:
            app.kill()
            if app.log.exists():
                (Path(tempfile.gettempdir()) / "gendrpix-load-server.log").write_bytes(app.log.read_bytes())
    print("nothing was wrong" if fine else "NOT as it should be")
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())

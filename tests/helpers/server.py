"""The app in a process of its own, as users start it: for the tests that ask it over the network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_S = 600.0
STOP_S = 150.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class AppProcess:
    """app.py on a port of its own, its temporary files in folder/temp, what it writes in folder/log.txt."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.settings = dict(settings or {})
        self.port = port or free_port()
        self.log = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    def start(self) -> None:
        """Start it, and wait until it is served."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_TEMP_DIR": str(self.temp),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }
        with self.log.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S
        while b"is ready at" not in self.log.read_bytes()[begin:]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def wait_until_loaded(self) -> None:
        """Wait for the restorers too."""
        deadline = time.monotonic() + START_S
        while not self.health()["loaded"]:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(1.0)

    def health(self) -> dict[str, Any]:
        """What /health says."""
        with urllib.request.urlopen(f"{self.address}/health", timeout=60) as answer:
            return dict(json.load(answer))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def files(self) -> list[Path]:
        """What lies in the temporary folder, locks aside."""
        return [path for path in self.temp.rglob("*") if path.is_file() and path.name != "lock"]

    def resident_mb(self) -> float:
        """Its resident set now, in MB."""
        return self._memory_mb("VmRSS")

    def forget_peak(self) -> None:
        """Let `peak_mb` count from now."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_mb(self) -> float:
        """The most that its resident set has been, in MB."""
        return self._memory_mb("VmHWM")

    def _memory_mb(self, field: str) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith(field)]
        return int(line.split()[1]) * 1024 / 1e6

    def cpu_s(self) -> float:
        """The processor time that it has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_app(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[AppProcess]:
    """The app, started, and stopped at the end."""
    app = AppProcess(folder, settings)
    try:
        app.start()
        yield app
    finally:
        if app.process is not None and app.process.poll() is None:
            app.stop()

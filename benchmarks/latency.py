"""How long a visitor waits: from the start of the app to the served page, and from Run to the first restored pixels.

    python -m benchmarks.latency              # the bundled weights and the cat, 128 to 512 pixels
    python -m benchmarks.latency --runs 5

Beside each wall time stands the CPU time of the app's processes in the same span: on a busy machine compare that one.
Needs Chromium on the path and the package playwright (requirements-test.txt). Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600
PAINTED = """() => { const image = document.querySelectorAll('#slider img')[1];
    return image && image.src.includes('_gendr') && image.complete && image.naturalWidth > 0; }"""


class Span(NamedTuple):
    """One measurement."""

    wall_s: float
    cpu_s: float


class App:
    """app.py in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / "log.txt"
        own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "gradio")}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own}, stdout=output, stderr=subprocess.STDOUT
            )

    def cpu_s(self) -> float:
        """What it has computed so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def wait_served(self) -> None:
        """Until the page can be fetched."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if httpx.get(self.address, timeout=30).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The app was not served; its log:\n{self.log.read_text()}")
            time.sleep(0.05)

    def wait_loaded(self) -> None:
        """Until weights and metrics are there."""
        deadline = time.monotonic() + PATIENCE_S
        while "restorers loaded" not in self.log.read_text():
            if time.monotonic() > deadline:
                raise RuntimeError(f"The restorers were not loaded; the log:\n{self.log.read_text()}")
            time.sleep(0.1)


@contextmanager
def started() -> Iterator[tuple[App, Span]]:
    """The app, and what it took to serve its page."""
    with tempfile.TemporaryDirectory(prefix="gendrpix-latency-") as folder:
        start = time.perf_counter()
        app = App(Path(folder))
        try:
            app.wait_served()
            yield app, Span(time.perf_counter() - start, app.cpu_s())
        finally:
            app.process.terminate()
            app.process.wait(30)


def open_example(page: Page, app: App) -> Span:
    """Load the page and choose the cat; what the loading took."""
    start, computed = time.perf_counter(), app.cpu_s()
    page.goto(app.address)
    page.wait_for_selector("#run:enabled")
    span = Span(time.perf_counter() - start, app.cpu_s() - computed)
    page.locator("#examples .gallery-item, #examples button").nth(1).click()
    page.wait_for_function("document.querySelector('#size-hint')?.innerText.includes('out')")
    return span


def first_pixels(page: Page, app: App) -> Span:
    """Press Run; until the first restorer's picture is in the slider."""
    start, computed = time.perf_counter(), app.cpu_s()
    page.locator("#run").click()
    page.wait_for_function(PAINTED)
    return Span(time.perf_counter() - start, app.cpu_s() - computed)


def say(what: str, spans: list[Span]) -> None:
    """The median, and how far the others are from it."""
    wall, cpu = (statistics.median(values) for values in zip(*spans, strict=True))
    seconds = [span.wall_s for span in spans]
    print(f"{what:58} {wall:6.2f} s wall ({min(seconds):.2f} to {max(seconds):.2f}), {cpu:6.2f} s CPU", flush=True)


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured; the median is shown")
    runs = parser.parse_args().runs
    served, loaded, early, warm = [], [], [], []
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(runs):
            with started() as (app, span):
                served.append(span)
                with browser.new_page() as page:
                    page.set_default_timeout(PATIENCE_S * 1000)
                    loaded.append(open_example(page, app))
                    early.append(first_pixels(page, app))
                app.wait_loaded()
                with browser.new_page() as page:
                    page.set_default_timeout(PATIENCE_S * 1000)
                    open_example(page, app)
                    warm.append(first_pixels(page, app))
        browser.close()
    print(f"load average {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, medians:")
    say("start of the app to the served page (aim 10 s)", served)
    say("opening the page until Run can be pressed", loaded)
    say("Run to the first restored pixels, while still loading", early)
    say("Run to the first restored pixels, loaded (aim 3 s)", warm)


if __name__ == "__main__":
    main()

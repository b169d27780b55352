"""A walk through the page's tabs that leaves each with results in it: for screenshots and the accessibility scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "examples" / "cat.png"
RUN_MS = 900_000
"""For the bundled weights on a busy machine."""


def walk(page: Page, *, scale: str = "2") -> Iterator[str]:
    """Open every tab that the page has and fill it; its name, while it is shown."""
    page.set_default_timeout(RUN_MS)
    expect(page.locator("#run")).to_be_enabled(timeout=RUN_MS)
    for tab in page.get_by_role("tab").all():
        name = tab.inner_text().strip()
        tab.click()
        FILL.get(name, fill_nothing)(page, scale)
        yield name


def fill_compare(page: Page, scale: str) -> None:
    page.locator("#scale input[type=number]").fill(scale)
    page.locator("#scale input[type=number]").press("Enter")
    choose(page, "#examples")
    expect(page.locator("#size-hint")).to_contain_text("out", timeout=RUN_MS)
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Done", timeout=RUN_MS)


def fill_tuner(page: Page, scale: str) -> None:
    choose(page, "#tuner-examples")
    expect(page.locator("#tuner-figures")).to_contain_text("Grid score", timeout=RUN_MS)
    page.locator("#sweep").click()
    expect(page.locator("#sweep-status")).to_contain_text("Best: rows", timeout=RUN_MS)


def fill_playground(page: Page, scale: str) -> None:
    choose(page, "#clean-examples")
    expect(page.locator("#play-status")).to_contain_text("degraded to", timeout=RUN_MS)
    page.locator("#play-run").click()
    expect(page.locator("#play-status")).to_contain_text("Done", timeout=RUN_MS)


def fill_batch(page: Page, scale: str) -> None:
    page.locator("#batch-files input[type=file]").set_input_files(EXAMPLE)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-download")).to_be_visible(timeout=RUN_MS)


def fill_benchmark(page: Page, scale: str) -> None:
    page.locator("#bench-run").click()
    expect(page.locator("#bench-status")).to_contain_text("Done", timeout=RUN_MS)


def fill_blind(page: Page, scale: str) -> None:
    page.locator("#blind-start").click()
    expect(page.locator("#blind-pair img").first).to_be_visible(timeout=RUN_MS)


def fill_nothing(page: Page, scale: str) -> None:
    """A tab that is shown as it is."""


def choose(page: Page, examples: str) -> None:
    """The second of the example photos, the cat."""
    page.locator(f"{examples} .gallery-item, {examples} button").nth(1).click()


FILL: dict[str, Callable[[Page, str], None]] = {
    "Compare": fill_compare,
    "Tuner": fill_tuner,
    "Playground": fill_playground,
    "Batch": fill_batch,
    "Benchmark": fill_benchmark,
    "Blind": fill_blind,
    "Blind test": fill_blind,
}


def set_theme(page: Page, theme: str) -> None:
    """Light or dark, without loading the page again; Gradio's own class."""
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
    page.wait_for_timeout(400)  # its colours fade

"""axe-core over every tab with results in it, light and dark: nothing serious in the page's own markup."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import test_page
from tests.helpers import tour
from tests.helpers.models import save_tiny_family
from tests.helpers.server import running_app

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]  # a busy machine may miss a deadline once
browser = test_page.browser  # fixture

GRAVE = ("serious", "critical")
GRADIOS = {"nested-interactive": ('aria-label="common.upload"',)}  # the upload button of a file list
"""Rule => parts of the HTML of Gradio's own components that break it, which this project cannot mend."""


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The app on tiny random weights, loaded in a wide window."""
    with running_app(tmp_path, {"GENDRPIX_WEIGHTS": str(save_tiny_family(tmp_path / "weights"))}) as app:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(app.address, timeout=tour.RUN_MS)
        yield page
        page.close()


def findings(page: Page) -> list[dict[str, Any]]:
    """Serious and critical violations: rule, help, and the nodes that are not Gradio's own."""
    report = axe.Axe().run(page)
    found = []
    for rule in report.response["violations"]:
        nodes = [
            {"html": node["html"][:300], "target": node["target"], "why": node.get("failureSummary", "")[:300]}
            for node in rule["nodes"]
            if not any(part in node["html"] for part in GRADIOS.get(rule["id"], ()))
        ]
        if rule["impact"] in GRAVE and nodes:
            found.append({"rule": rule["id"], "impact": rule["impact"], "help": rule["help"], "nodes": nodes})
    return found


def test_no_serious_finding_in_any_tab(page: Page) -> None:
    found = {}
    for name in tour.walk(page):
        for theme in ("light", "dark"):
            tour.set_theme(page, theme)
            if some := findings(page):
                found[f"{name}, {theme}"] = some
        tour.set_theme(page, "light")
    if report := os.environ.get("GENDRPIX_AXE_REPORT"):
        Path(report).write_text(json.dumps(found, indent=1))
    assert found == {}, json.dumps(found, indent=1)

"""Text that visitors give, in file names, PNG metadata and presets, is shown as text in a real Chromium."""

import json
from collections.abc import Iterator

import pytest
from PIL import PngImagePlugin

from gendrpix.settings.recipe import KEYWORD
from tests.browser.test_page import STEP_MS, browser  # noqa: F401 - a fixture
from tests.helpers.guests import listening
from tests.helpers.models import save_tiny_family
from tests.helpers.pace import scaled
from tests.helpers.pictures import encoded, photo
from tests.helpers.server import AppProcess, running_app

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
from playwright.sync_api import Browser, FilePayload, Page, expect  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]  # a busy machine may miss a deadline once


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """A server with its limits as shipped: those of the attacks are less than a page needs."""
    folder = tmp_path_factory.mktemp("hostile")
    with running_app(folder, {"GENDRPIX_WEIGHTS": str(save_tiny_family(folder / "weights"))}) as app:
        yield app


@pytest.fixture
def page(browser: Browser, app: AppProcess) -> Iterator[Page]:  # noqa: F811 - the fixture
    page = browser.new_page()
    step_ms = scaled(STEP_MS)
    page.set_default_timeout(step_ms)
    expect.set_options(timeout=step_ms)
    page.goto(app.address)
    expect(page.locator("#run")).to_be_enabled()
    yield page
    expect.set_options(timeout=STEP_MS)
    page.close()


def png(recipe: dict | None = None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if recipe:
        info.add_text(KEYWORD, json.dumps(recipe))
    return encoded(photo(20, 20), pnginfo=info)


def payload(name: str, data: bytes, kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


@pytest.mark.deadline
def test_hostile_text_is_only_text(page: Page) -> None:
    with listening() as (port, asked):
        address = f"http://127.0.0.1:{port}"
        evil = f"<img src={address}/html.png onerror=window.owned=1><svg onload=window.owned=1> ![x]({address}/md.png)"
        toast = page.locator(".toast-body")

        page.locator("#photo input[type=file]").set_input_files(payload(f"{evil}.png", b"no picture"))
        expect(toast).to_contain_text("is not a picture")

        page.locator("#more > button").click()
        recipe = {"restorer": "gendr-pix", "guidance": None, "scale": 2, "weights": evil}
        for given, shown in (({**recipe, "restorer": evil}, toast.last), (recipe, page.locator("#loaded"))):
            with page.expect_file_chooser() as chooser:
                page.locator("#load-settings").click()
            chooser.value.set_files(payload("x.png", png(given)))
            expect(shown).to_contain_text("img src")

        page.get_by_role("tab", name="Tuner").click()
        with page.expect_file_chooser() as chooser:
            page.locator("#load-preset").click()
        preset = {evil: 1, "format": evil}
        chooser.value.set_files(payload("x.json", json.dumps(preset).encode(), "application/json"))
        expect(toast.last).to_contain_text("The file's format is")

        page.get_by_role("tab", name="Batch").click()
        files = [payload(f"{evil}.png", png()), payload(f"{evil}2.png", b"no picture")]
        page.locator("#batch-files input[type=file]").set_input_files(files)
        expect(page.locator("#batch-status")).to_contain_text("2 files")
        page.locator("#batch-run").click()
        expect(page.locator("#batch-download")).to_be_visible(timeout=scaled(120_000))

        page.wait_for_timeout(500)
        assert page.evaluate("window.owned") is None
        assert asked == []
        images = [image.get_attribute("src") or "" for image in page.locator("img").all()]
        assert not any(address in source for source in images)

"""The page in a real Chromium: app.py started as users start it, on tiny random weights, no network needed."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.models import save_tiny_family

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
from playwright.sync_api import Browser, Page, expect  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]  # a busy machine may miss a deadline once

ROOT = Path(__file__).resolve().parents[2]
START_S = 120
STEP_MS = 30_000
RUN_MS = 120_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("GENDRPIX_REQUIRE_BROWSER") == "1":
            pytest.fail("GENDRPIX_REQUIRE_BROWSER is 1 and there is no Chromium on the path")
        pytest.skip("there is no Chromium on the path")
    expect.set_options(timeout=STEP_MS)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """app.py in a process of its own, on a free port."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "GENDRPIX_WEIGHTS": str(save_tiny_family(folder / "weights")),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log.txt"
    with log.open("w") as output:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_S
        while "is ready at" not in log.read_text():
            assert app.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        assert "ERROR" not in log.read_text(), log.read_text()
    finally:
        app.terminate()
        app.wait(20)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The loaded page. Afterwards: no console error, no failed request, nothing asked of another server."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(STEP_MS)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    own = (address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
    page.goto(address)
    expect(page.locator("#run")).to_be_enabled()
    yield page
    page.close()
    left = any("AbortError" in text for text in wrong)  # the page was left for another address: it closes its stream
    assert [text for text in wrong if not (left and ("AbortError" in text or "errored out" in text))] == []


def open_tab(page: Page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():  # Gradio puts what does not fit into a menu
        page.locator(".overflow-menu > button").first.click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def choose_example(page: Page, index: int = 0) -> None:
    """Choose it, and a small scale, for speed."""
    page.locator("#scale input[type=number]").fill("2")
    page.locator("#scale input[type=number]").press("Enter")
    page.locator("#examples .gallery-item, #examples button").nth(index).click()
    expect(page.locator("#size-hint")).to_contain_text("out")


def press_run(page: Page) -> None:
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Done", timeout=RUN_MS)


def pictures(page: Page) -> list[str]:
    return [image.get_attribute("src") or "" for image in page.locator("#slider img").all()]


def test_example_to_download(page: Page, tmp_path: Path) -> None:
    choose_example(page)
    press_run(page)
    rows = page.locator("#scorecard tbody tr")
    expect(rows).to_have_count(5)
    for row, name in zip(rows.all(), ("Input (bicubic)", "GenDR-Pix*", "GenDR-Pix", "GenDR-Adc", "GenDR"), strict=True):
        assert row.locator("td").first.inner_text() == name
        expect(row).not_to_contain_text("running")
        expect(row).not_to_contain_text("waiting")
    expect(page.locator("#scorecard-notes")).to_contain_text("MUSIQ is not available")
    with page.expect_download() as caught:
        page.locator("#download").click()
    caught.value.save_as(tmp_path / "result.png")
    assert caught.value.suggested_filename.endswith("_gendr.png")
    with Image.open(tmp_path / "result.png") as result:
        result.load()
        assert result.format == "PNG" and min(result.size) >= 256
    page.locator("#left label", has_text="GenDR-Adc").click()
    page.wait_for_function("document.querySelector('#slider img').src.includes('gendr-adc')")
    assert pictures(page)[1].endswith("_gendr.png")


def test_slider_moves(page: Page) -> None:
    page.locator("#restorers label", has_text="GenDR-Adc").click()
    choose_example(page, 1)
    press_run(page)
    top = page.locator("#slider img").nth(1)
    before = top.evaluate("image => getComputedStyle(image).clipPath")
    frame = page.locator("#slider .slider-wrap").bounding_box()
    assert frame is not None
    middle, height = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(middle, height)
    page.mouse.down()
    page.mouse.move(middle - 120, height, steps=6)
    page.mouse.up()
    expect(top).not_to_have_css("clip-path", before)
    expect(page.locator("#scorecard tbody tr")).to_have_count(4)


def test_broken_upload_gives_a_sentence(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "holiday.png"
    broken.write_text("this is no picture")
    page.locator("#photo input[type=file]").set_input_files(broken)
    expect(page.locator(".toast-body")).to_contain_text("is not a picture in an accepted format")
    expect(page.locator("#photo img")).to_have_count(0)
    page.locator("#run").click()
    expect(page.locator(".toast-body").last).to_contain_text("There is no photo yet")
    expect(page.locator("#run")).to_be_enabled()
    expect(page.locator("#cancel")).to_be_disabled()


def test_cancel_stops_and_says_so(page: Page) -> None:
    choose_example(page, 2)
    page.locator("#scale input[type=number]").fill("8")  # long enough to be cancelled on a fast machine
    page.locator("#scale input[type=number]").press("Tab")
    page.locator("#run").click()
    expect(page.locator("#cancel")).to_be_enabled()
    page.locator("#cancel").click()
    expect(page.locator("#status")).to_contain_text("Cancelled")
    expect(page.locator("#run")).to_be_enabled()
    expect(page.locator("#cancel")).to_be_disabled()


def test_maps_command_and_settings_from_the_png(page: Page, tmp_path: Path) -> None:
    page.locator("#restorers label", has_text="GenDR-Adc").click()
    choose_example(page, 1)
    press_run(page)
    page.locator("#maps > button").click()
    page.locator("#map-kind label", has_text="Consistency").click()
    expect(page.locator("#map img")).to_be_visible()
    expect(page.locator("#map-mean")).to_contain_text("GenDR, reduced, against your photo")
    page.locator("#again > button").click()
    expect(page.locator("#command textarea")).to_have_value(re.compile("^python -m gendrpix restore .* --scale 2"))
    with page.expect_download() as caught:
        page.locator("#download").click()
    caught.value.save_as(tmp_path / "result.png")
    page.locator("#scale input[type=number]").fill("3")
    page.locator("#more > button").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#load-settings").click()
    chooser.value.set_files(tmp_path / "result.png")
    expect(page.locator("#loaded")).to_contain_text("Settings loaded: gendr, scale 2.")
    expect(page.locator("#scale input[type=number]")).to_have_value("2")
    assert page.locator("#restorers input:checked").count() == 1


def test_tuner_sweeps_and_takes_a_cell(page: Page) -> None:
    open_tab(page, "Tuner")
    page.locator("#tuner-examples .gallery-item, #tuner-examples button").nth(1).click()
    expect(page.locator("#tuner-figures")).to_contain_text("Grid score")
    omega = page.locator("#tuner-omega input[type=range]")
    before = page.locator("#tuner-slider img").nth(1).get_attribute("src")
    omega.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tuner-omega input[type=number]")).to_have_value("1.55")
    expect(page.locator("#tuner-slider img").nth(1)).not_to_have_attribute("src", before or "")
    page.locator("#sweep").click()
    expect(page.locator("#sweep-status")).to_contain_text("Best: rows", timeout=RUN_MS)
    heat = page.locator("#heat img").bounding_box()
    assert heat is not None
    cell = heat["width"] / (44 + 8 * 56) * 56  # the drawing's margin is 44 pixels, its cells are 56
    page.mouse.click(heat["x"] + heat["width"] - 1.5 * cell, heat["y"] + heat["height"] - 5.5 * cell)
    expect(page.locator("#tuner-pos-rows input[type=number]")).to_have_value("2")
    expect(page.locator("#tuner-pos-columns input[type=number]")).to_have_value("6")
    expect(page.locator("#preset input:checked")).to_have_value("Own")
    expect(page.locator("#pads figcaption")).to_contain_text("2 rows above and 6 columns")
    expect(page.locator("#omega-curve")).to_be_visible()


def test_playground_degrades_and_restores(page: Page) -> None:
    open_tab(page, "Playground")
    page.locator("#clean-examples .gallery-item, #clean-examples button").first.click()
    expect(page.locator("#play-status")).to_contain_text("degraded to")
    page.locator("#play-run").click()
    expect(page.locator("#play-table")).to_contain_text("PSNR-Y", timeout=RUN_MS)
    expect(page.locator("#play-status")).to_contain_text("Done", timeout=RUN_MS)
    expect(page.locator("#play-run")).to_be_enabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(page: Page, theme: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{page.url.split('?')[0]}?__theme={theme}")
    expect(page.locator("#run")).to_be_enabled()
    choose_example(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for control in ("#run", "#photo", "#scale", "#padcfg"):
        box = page.locator(control).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    for name, control in (("Tuner", "#sweep"), ("Playground", "#play-run")):
        open_tab(page, name)
        expect(page.locator(control)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

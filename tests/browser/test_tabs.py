"""The benchmark, batch and blind test tabs, and the tuner's and the playground's Cancel, in a real Chromium."""

import csv
import io
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import test_page
from tests.browser.test_page import RUN_MS, choose_example, open_tab, press_run
from tests.helpers.pictures import encoded, photo

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]  # a busy machine may miss a deadline once
browser, address, page = test_page.browser, test_page.address, test_page.page  # fixtures


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as caught:
        page.locator(button).click()
    return Path(caught.value.path()).read_bytes()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A picture, a broken one, and a zip of two pictures."""
    paths = [tmp_path / name for name in ("cat.png", "torn.png", "trip.zip")]
    paths[0].write_bytes(encoded(photo(40, 32)))
    paths[1].write_text("no picture")
    with zipfile.ZipFile(paths[2], "w") as archive:
        for name in ("a/dog.png", "../b.png"):
            archive.writestr(name, encoded(photo(32, 24)))
    return paths


def set_scale(page: Page, scale: int) -> None:
    box = page.locator("#batch-scale input[type=number]")
    box.fill(str(scale))
    box.press("Tab")


def run_and_cancel(page: Page, run: str, cancel: str) -> None:
    """Press both as fast as they can be pressed: tiny weights would be done before a driver's second click."""
    page.evaluate(
        """([run, cancel]) => {
            const pressing = setInterval(() => {
                const button = document.querySelector(cancel);
                if (button.disabled) return;
                clearInterval(pressing);
                button.click();
            }, 5);
            document.querySelector(run).click();
        }""",
        [run, cancel],
    )


# Batch -------------------------------------------------------------------------------------------------------------


def test_batch_of_files_and_a_zip_to_a_zip(page: Page, pictures: list[Path]) -> None:
    open_tab(page, "Batch")
    page.locator("#batch-run").click()
    expect(page.locator(".toast-body").last).to_contain_text("There are no pictures yet")
    page.locator("#batch-files input[type=file]").set_input_files(pictures)
    expect(page.locator("#batch-status")).to_contain_text("3 files chosen")
    set_scale(page, 2)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-status")).to_contain_text("3 of 4 pictures restored, 1 failed", timeout=RUN_MS)
    expect(page.locator("#batch-table")).to_contain_text("'torn.png' is not a picture")
    expect(page.locator("#batch-previews img")).to_have_count(3)
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "#batch-download"))) as archive:
        names = set(archive.namelist())
        lines = list(csv.DictReader(io.StringIO(archive.read("report.csv").decode())))
    assert {"results/cat.png", "results/a/dog.png", "results/b.png", "thumbnails/cat.jpg"} < names
    assert {line["file"]: line["status"] for line in lines}["torn.png"] == "failed"


def test_batch_of_a_folder_stops_and_goes_on(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "day 1").mkdir(parents=True)
    for number in range(6):  # two of them of one name
        path = folder / "day 1" / f"{number}.png" if number else folder / "1.png"
        path.write_bytes(encoded(photo(96, 80)))
    (folder / "notes.txt").write_text("not a picture")
    open_tab(page, "Batch")
    with page.expect_file_chooser() as chooser:
        page.locator("#batch-folder").click()
    chooser.value.set_files(folder)
    expect(page.locator("#batch-status")).to_contain_text("6 files chosen")
    set_scale(page, 8)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-table")).to_contain_text("done", timeout=RUN_MS)
    page.locator("#batch-cancel").click()
    expect(page.locator("#batch-status")).to_contain_text("Cancelled.")
    expect(page.locator("#batch-run")).to_have_text("Go on")
    expect(page.locator("#batch-download")).to_be_visible()
    page.locator("#batch-run").click()
    expect(page.locator("#batch-status")).to_contain_text("6 of 6 pictures restored.", timeout=RUN_MS)
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "#batch-download"))) as archive:
        names = archive.namelist()
    results = {f"results/{name}.png" for name in ("1", "1 (2)", "2", "3", "4", "5")}
    assert {name for name in names if name.startswith("results/")} == results


# Blind test --------------------------------------------------------------------------------------------------------


def test_blind_votes_become_a_ranking(page: Page) -> None:
    choose_example(page, 1)
    press_run(page)
    open_tab(page, "Blind test")
    page.locator("#blind-start").click()
    expect(page.locator("#blind-first img")).to_be_visible()
    for _ in range(2):
        sources = [page.locator(f"#blind-{place} img").get_attribute("src") or "" for place in ("first", "second")]
        assert sources[0] != sources[1] and not any("gendr-" in source or "input" in source for source in sources)
        page.locator("#blind-a").click()
        page.wait_for_function(
            "old => document.querySelector('#blind-first img').src !== old[0] "
            "|| document.querySelector('#blind-second img').src !== old[1]",
            arg=sources,
        )
        expect(page.locator("#blind-status")).to_contain_text("A was")
    page.locator("#blind-none").click()
    expect(page.locator("#blind-status")).to_contain_text("3 votes so far")
    assert page.locator("#blind-ranking tbody tr").count() >= 2
    lines = list(csv.DictReader(io.StringIO(downloaded(page, "#blind-votes-csv").decode())))
    assert [bool(line["winner"]) for line in lines] == [True, True, False]
    ranking = list(csv.DictReader(io.StringIO(downloaded(page, "#blind-ranking-csv").decode())))
    assert [line["place"] for line in ranking] == [str(i) for i in range(1, len(ranking) + 1)]


# Benchmark ---------------------------------------------------------------------------------------------------------


def test_benchmark_measures_and_stops(page: Page) -> None:
    open_tab(page, "Benchmark")
    for name in ("GenDR", "GenDR-Adc", "GenDR-Pix"):
        page.locator("#bench-restorers").get_by_label(name, exact=True).click()
    page.locator("#bench-run").click()
    expect(page.locator("#bench-status")).to_contain_text("Done: 2 cases", timeout=RUN_MS)
    expect(page.locator("#bench-table tbody tr")).to_have_count(2)
    expect(page.locator("#bench-times img")).to_be_visible()
    expect(page.locator("#bench-memory img")).to_be_visible()
    lines = list(csv.DictReader(io.StringIO(downloaded(page, "#bench-csv").decode())))
    assert [line["width_px"] for line in lines] == ["256", "512"] and float(lines[0]["seconds"]) > 0
    page.locator("#bench-sizes label").filter(has_text="2048").click()
    page.locator("#bench-run").click()
    expect(page.locator("#bench-status")).to_contain_text("2 of 3 measured", timeout=RUN_MS)
    page.locator("#bench-cancel").click()
    expect(page.locator("#bench-status")).to_contain_text("Cancelled. Kept: 2 cases")
    expect(page.locator("#bench-run")).to_be_enabled()
    page.locator("#bench-restorers label").last.click()
    page.locator("#bench-run").click()
    expect(page.locator(".toast-body").last).to_contain_text("Tick at least one restorer")


# Tuner, playground -------------------------------------------------------------------------------------------------


def test_tuner_sweep_stops_goes_on_and_gives_the_best(page: Page) -> None:
    open_tab(page, "Tuner")
    page.locator("#sweep").click()
    expect(page.locator(".toast-body").last).to_contain_text("There is no photo yet")
    page.locator("#tuner-examples .gallery-item, #tuner-examples button").nth(1).click()
    expect(page.locator("#tuner-figures")).to_contain_text("Grid score")
    run_and_cancel(page, "#sweep", "#sweep-cancel")
    expect(page.locator("#sweep-status")).to_contain_text("What was scored is kept")
    page.locator("#sweep").click()
    expect(page.locator("#sweep-status")).to_contain_text("Best: rows", timeout=RUN_MS)
    best = re.search(r"rows (\d), columns (\d)", page.locator("#sweep-status").inner_text())
    assert best is not None
    page.locator("#take-best").click()
    expect(page.locator("#tuner-pos-columns input[type=number]")).to_have_value(best[2])
    expect(page.locator("#tuner-pos-rows input[type=number]")).to_have_value(best[1])
    page.locator("#use-on-compare").click()
    expect(page.locator("#photo img")).to_be_visible()
    expect(page.locator("#pos-columns input[type=number]")).to_have_value(best[2])
    expect(page.locator("#omega input[type=number]")).to_have_value("1.5")
    expect(page.locator("#size-hint")).to_contain_text("out")


def test_playground_follows_its_sliders_and_stops(page: Page) -> None:
    open_tab(page, "Playground")
    page.locator("#play-run").click()
    expect(page.locator(".toast-body").last).to_contain_text("There is no picture yet")
    page.locator("#clean-examples .gallery-item, #clean-examples button").first.click()
    expect(page.locator("#play-status")).to_contain_text("PSNR-Y")
    before = page.locator("#play-status").inner_text()
    page.locator("#noise input[type=number]").fill("15")
    page.locator("#noise input[type=number]").press("Tab")
    expect(page.locator("#play-status")).not_to_have_text(before)
    run_and_cancel(page, "#play-run", "#play-cancel")
    expect(page.locator("#play-status")).to_contain_text("Cancelled")
    expect(page.locator("#play-run")).to_be_enabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_new_tabs_fit_a_phone(page: Page, theme: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{page.url.split('?')[0]}?__theme={theme}")
    expect(page.locator("#run")).to_be_enabled()
    for name, control in (("Benchmark", "#bench-run"), ("Batch", "#batch-run"), ("Blind test", "#blind-start")):
        open_tab(page, name)
        expect(page.locator(control)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

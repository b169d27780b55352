"""The compare tab in a real Chromium: keyboard, loupe, crop first, forecast, sharing."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import test_page
from tests.browser.test_page import STEP_MS, choose_example, press_run

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]  # a busy machine may miss a deadline once
browser, address, page = test_page.browser, test_page.address, test_page.page  # fixtures


def divider_at(page: Page) -> int:
    return int(page.locator('#slider [role="slider"]').get_attribute("aria-valuenow") or -1)


def test_keyboard_moves_flips_and_chooses(page: Page) -> None:
    choose_example(page)
    press_run(page)
    page.locator("#view input[type=radio]").last.focus()
    for _ in range(6):  # past the slider's own buttons
        if page.evaluate("document.activeElement.getAttribute('role')") == "slider":
            break
        page.keyboard.press("Tab")
    divider = page.locator('#slider [role="slider"]')
    expect(divider).to_be_focused()
    expect(divider).to_have_attribute("aria-label", re.compile("Divider"))
    expect(divider).to_have_attribute("aria-valuenow", "50")
    page.keyboard.press("ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "52")
    page.keyboard.press("Shift+ArrowLeft")
    expect(divider).to_have_attribute("aria-valuenow", "42")
    page.keyboard.press("Home")
    expect(divider).to_have_attribute("aria-valuenow", "0")
    before = page.locator("#slider img").nth(1).evaluate("image => getComputedStyle(image).clipPath")
    page.keyboard.press("f")
    expect(divider).to_have_attribute("aria-valuenow", "100")
    assert page.locator("#slider img").nth(1).evaluate("image => getComputedStyle(image).clipPath") != before
    page.keyboard.press("Digit2")
    expect(page.locator("#right input:checked")).to_have_value("GenDR-Pix*")
    page.wait_for_function("document.querySelectorAll('#slider img')[1].src.includes('gendr-pix-star')")
    page.keyboard.press("Shift+Digit5")
    expect(page.locator("#left input:checked")).to_have_value("GenDR")
    expect(page.locator("#slider img").first).to_have_attribute("alt", "Left: 5 GenDR")
    expect(page.locator("#keys")).to_be_visible()
    expect(page.locator("#download")).to_contain_text("Download GenDR-Pix* as PNG")


def test_loupe_shows_the_same_place_of_every_picture(page: Page) -> None:
    choose_example(page, 1)
    press_run(page)
    expect(page.locator("#loupe .loupe")).to_be_hidden()
    picture = page.locator("#slider img").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    shown = min(box["width"], box["height"])  # the picture is square and stands in the middle
    left, top = box["x"] + (box["width"] - shown) / 2, box["y"] + (box["height"] - shown) / 2
    page.mouse.click(left + 0.25 * shown, top + 0.5 * shown)
    lenses = page.locator("#loupe figure > div")
    expect(lenses).to_have_count(5)
    expect(page.locator("#loupe output")).to_have_text(re.compile(r"^4× at 6[345], 12[789]$"))
    styles = lenses.evaluate_all("all => all.map(e => [e.style.backgroundPosition, e.style.backgroundSize])")
    assert len({tuple(style) for style in styles}) == 1 and styles[0][1] == "1024px 1024px"
    assert lenses.first.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    loaded = "all => Promise.all(all.map(e => fetch(e.style.backgroundImage.slice(5, -2)).then(r => r.status)))"
    assert lenses.evaluate_all(loaded) == [200] * 5
    page.locator("#loupe .lenses").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#loupe output")).to_have_text(re.compile(r"^4× at 6[345], 13[567]$"))
    page.keyboard.press("+")
    expect(page.locator("#loupe output")).to_contain_text("5× at")
    page.locator("#loupe input").fill("8")
    expect(page.locator("#loupe output")).to_contain_text("8× at")
    assert lenses.first.evaluate("e => e.style.backgroundSize") == "2048px 2048px"


def test_a_part_first_then_the_whole(page: Page) -> None:
    choose_example(page, 1)
    expect(page.locator("#expected")).to_contain_text("Expected", timeout=2 * STEP_MS)
    page.locator("#crop-panel > button").click()
    view = page.locator("#crop-view img")
    expect(view).to_be_visible()
    box = view.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    expect(page.locator("#crop input[type=checkbox]")).to_be_checked()
    expect(page.locator("#size-hint")).to_contain_text("96 × 96 pixels of the photo in")
    press_run(page)
    assert page.locator("#slider img").first.evaluate("image => image.naturalWidth") == 192
    expect(page.locator("#whole")).to_have_text("GenDR on the whole photo")
    page.locator("#whole").click()
    expect(page.locator("#scorecard tbody tr")).to_have_count(2)
    expect(page.locator("#status")).to_contain_text("Done")
    page.wait_for_function("document.querySelector('#slider img').naturalWidth === 256")
    expect(page.locator("#whole")).to_be_hidden()


def test_link_and_page_to_share(page: Page, tmp_path: Path) -> None:
    address = page.url.split("?")[0]
    page.goto(f"{address}?example=cat.png&scale=2&restorers=gendr-pix*&repeats=2&guidance=none&crop=20,30,40")
    expect(page.locator("#size-hint")).to_contain_text("40 × 40 pixels of the photo in, 80 × 80 out")
    assert page.locator("#restorers input:checked").count() == 1
    press_run(page)
    page.locator("#again > button").click()
    expect(page.locator("#command textarea")).to_have_value(re.compile("--crop 6 18 40 40 --scale 2 "))
    page.locator("#make-link").click()
    expect(page.locator("#link textarea")).to_have_value(
        f"{address}?restorers=gendr-pix*&scale=2&guidance=none&repeats=2&crop=20,30,40&example=cat.png"
    )
    page.locator("#make-page").click()
    with page.expect_download() as caught:
        page.locator("#page-file").click()
    caught.value.save_as(tmp_path / "pair.html")
    assert page.context.browser is not None
    other = page.context.browser.new_page()
    other.goto((tmp_path / "pair.html").as_uri())
    assert other.evaluate("[...document.images].map(image => image.naturalWidth)") == [80, 80]
    other.get_by_role("slider").focus()
    other.keyboard.press("Home")
    assert other.evaluate("getComputedStyle(document.images[1]).clipPath") == "inset(0px 0px 0px 0%)"
    other.close()


def test_a_bad_link_is_a_sentence(page: Page) -> None:
    page.goto(f"{page.url.split('?')[0]}?scale=99")
    expect(page.locator(".toast-body")).to_contain_text("scale is 99; expected a number from 1 to 8")


def test_longer_side_in_place_of_the_scale(page: Page) -> None:
    page.locator("#by-size label", has_text="Longer side").click()
    page.locator("#size input").fill("200")
    page.locator("#size input").press("Tab")
    page.locator("#examples .gallery-item, #examples button").nth(1).click()
    expect(page.locator("#size-hint")).to_contain_text("200 × 200 out")
    page.locator("#size input").fill("5000")
    page.locator("#size input").press("Tab")
    expect(page.locator("#size-hint")).to_contain_text(
        "a longer side of 5000 is out of reach: scale is 39.0625; expected a number from 1 to 8"
    )
    page.locator("#run").click()
    expect(page.locator(".toast-body").last).to_contain_text(
        "a longer side of 5000 is out of reach: scale is 39.0625; expected a number from 1 to 8"
    )


def test_phone_shows_results_without_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    choose_example(page)
    press_run(page)
    page.locator("#slider [role=slider]").press("l")
    expect(page.locator("#loupe figure")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for part in ("#pair", "#slider", "#loupe", "#download"):
        box = page.locator(part).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390, part

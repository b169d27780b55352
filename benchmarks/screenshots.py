"""Pictures of every tab with results in it: light, dark, and as wide as a phone.

    python -m benchmarks.screenshots OUT      # OUT/compare-light.webp and so on, at most 60 KB each

The bundled weights, or those of GENDRPIX_WEIGHTS. Needs Chromium on the path and the package playwright.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.test_page import CHROMIUM, SWITCHES
from tests.helpers.server import running_app
from tests.helpers.tour import walk

WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
MOST_BYTES = 60_000
MOST_PX = 2400
"""Height beyond which a picture is cut: what is below is more of the same."""


def main() -> int:
    if len(sys.argv) != 2 or CHROMIUM is None:
        print("python -m benchmarks.screenshots OUT; Chromium must be on the path.", file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as app, sync_playwright() as driver:
        app.wait_until_loaded()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        for theme in ("light", "dark"):
            page = browser.new_page(viewport=WIDE)
            page.goto(f"{app.address}?__theme={theme}")
            for name in walk(page, scale="4"):
                plain = re.sub(r"\W+", "-", name.lower()).strip("-")
                save(page, out / f"{plain}-{theme}.webp")
                if theme == "light":
                    page.set_viewport_size(PHONE)
                    page.wait_for_timeout(500)
                    save(page, out / f"{plain}-phone.webp")
                    page.set_viewport_size(WIDE)
        browser.close()
    return 0


def save(page: Page, path: Path) -> None:
    """The whole page, in the best quality that is small enough."""
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, MOST_PX)))
    for quality in (90, 80, 70, 55, 40, 25):
        image.save(path, quality=quality, method=6)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    sys.exit(main())

"""Builds the page and launches it. The restorers load in the background once it is served."""

from __future__ import annotations

import logging
import os
import sys
import time

STARTED_S = time.perf_counter()
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

from gendrpix.ui.engine import Engine  # noqa: E402
from gendrpix.ui.page import build_page  # noqa: E402
from gendrpix.ui.theme import STYLE_SHEET, build_theme  # noqa: E402

MAX_UPLOAD = "200mb"
logger = logging.getLogger("gendrpix.app")


def main() -> None:
    """Serve the page where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say: by default 127.0.0.1, from port 7860 on."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    engine = Engine()
    page = build_page(engine)
    page.queue(max_size=20, default_concurrency_limit=4)
    _, address, _ = page.launch(
        theme=build_theme(),
        css_paths=STYLE_SHEET,
        footer_links=["api", "settings"],
        max_file_size=MAX_UPLOAD,
        run_history=False,
        mcp_server=True,
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    seconds = time.perf_counter() - STARTED_S
    sys.stdout.write(f"GenDR-Pix is ready at {address} (served after {seconds:.1f} s). Press Ctrl+C to stop.\n")
    sys.stdout.flush()
    engine.load_in_background()
    page.block_thread()


if __name__ == "__main__":
    main()

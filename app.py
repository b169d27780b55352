"""Builds the page and launches it. The restorers load in the background once it is served."""

from __future__ import annotations

import os
import sys
import time

STARTED_S = time.perf_counter()
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ["FORWARDED_ALLOW_IPS"] = ""  # the guard alone decides whose forwarding headers are believed

from gendrpix.ui.engine.engine import Engine  # noqa: E402
from gendrpix.ui.engine.warmup import load, load_in_background  # noqa: E402
from gendrpix.ui.engine.zerogpu import on_zero_gpu  # noqa: E402
from gendrpix.ui.page import build_page  # noqa: E402
from gendrpix.ui.serve import Server  # noqa: E402
from gendrpix.ui.server.gradio_patches import harden_gradio  # noqa: E402
from gendrpix.ui.server.logs import set_up_logging  # noqa: E402
from gendrpix.ui.server.settings import server_settings  # noqa: E402
from gendrpix.ui.server.temp_folder import private_folder  # noqa: E402


def main() -> int:
    """Serve the page where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say: by default 127.0.0.1, from port 7860 on.

    The limits are settings (`gendrpix.ui.server.settings`). SIGTERM and Ctrl+C stop it. Returns the exit code.
    """
    try:
        settings = server_settings()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    set_up_logging(settings.log_format)
    harden_gradio()
    with private_folder() as folder:
        engine = Engine()
        if on_zero_gpu():
            load(engine)  # there the models must be on the device before the page is launched
        server = Server(build_page(engine), engine, settings, folder)
        address = server.start(os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
        seconds = time.perf_counter() - STARTED_S
        sys.stdout.write(f"GenDR-Pix is ready at {address} (served after {seconds:.1f} s). Press Ctrl+C to stop.\n")
        sys.stdout.flush()
        load_in_background(engine)
        server.wait_for_signal()
        server.stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads of libraries may still compute; everything of ours is put away


if __name__ == "__main__":
    sys.exit(main())

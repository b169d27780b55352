"""The whole page: header, tabs, footer."""

from __future__ import annotations

from importlib import resources
from typing import Any

import gradio as gr

from gendrpix import __version__
from gendrpix.ui.api import Endpoints
from gendrpix.ui.compare.tab import CompareTab
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.server.settings import server_settings
from gendrpix.ui.tabs.batch import BatchTab
from gendrpix.ui.tabs.benchmark import BenchmarkTab
from gendrpix.ui.tabs.blind_test import BlindTab
from gendrpix.ui.tabs.playground import PlaygroundTab
from gendrpix.ui.tuner.tab import TunerTab
from gendrpix.ui.tuner.values import as_guidance
from gendrpix.ui.widgets.errors import user_errors

TITLE = "GenDR-Pix"
HOUR_S = 3600
MEND = resources.files(__package__) / "mend.js"
HEADER = (
    f"<h1>{TITLE}</h1>"
    "<p>Restore and enlarge a blurry photo with three one-step restorers, and see what each one costs.</p>"
)


def build_page(engine: Engine) -> gr.Blocks:
    """Widgets and wiring; nothing is computed or loaded here."""
    keep_s = server_settings().keep_s
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(min(keep_s, HOUR_S), keep_s))
    with page:
        gr.HTML(HEADER, elem_id="header", container=False)
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id="compare", elem_id="compare-tab"):
                compare = CompareTab(engine)
            with gr.Tab("Tuner", elem_id="tuner-tab"):
                tuner = TunerTab(engine)
            with gr.Tab("Playground", elem_id="playground-tab"):
                PlaygroundTab(engine)
            with gr.Tab("Benchmark", elem_id="benchmark-tab"):
                BenchmarkTab(engine)
            with gr.Tab("Batch", elem_id="batch-tab"):
                BatchTab(engine)
            with gr.Tab("Blind test", elem_id="blind-tab"):
                BlindTab(engine, compare.session)
        hand_over(tuner, compare, tabs)
        Endpoints(engine)
        page.load(compare.handlers.take_link, None, list(compare.inputs.values()), api_visibility="private")
        page.load(None, None, None, js=MEND.read_text(encoding="utf-8"), api_visibility="private")
        footer = gr.Markdown(footer_line(engine.weights_name), elem_id="footer", elem_classes="hint")
        page.load(
            lambda: footer_line(engine.describe_weights()),
            None,
            footer,
            api_visibility="private",
            show_progress="hidden",
            queue=False,
        )
    return page


def footer_line(weights: str) -> str:
    """Version, weights, source of the method."""
    return f"gendrpix {__version__} · weights: {weights} · [the method](https://arxiv.org/abs/2602.10630)"


def hand_over(tuner: TunerTab, compare: CompareTab, tabs: gr.Tabs) -> None:
    """A button that takes the photo and the guidance to the compare tab and goes there."""

    def take(photo: Photo | None, *guidance: Any) -> dict[Any, Any]:
        with user_errors():
            taken = {} if photo is None else {compare.photo: photo["path"]}
            return {**compare.padcfg.shown(as_guidance(*guidance)), **taken, tabs: gr.update(selected="compare")}

    tuner.use.click(
        take,
        [tuner.photo, *tuner.guidance],
        [compare.photo, *compare.padcfg.widgets, tabs],
        preprocess=False,
        api_visibility="private",
        show_progress="hidden",
    )

"""The compare tab: one photo, up to four restorers, any two pictures beside each other, one scorecard."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from gendrpix.ui.compare.handlers import Comparing
from gendrpix.ui.compare.widgets import CompareWidgets, shown
from gendrpix.ui.engine.engine import COMPUTE, Engine


class CompareTab(CompareWidgets):
    """Widgets and wiring, built inside a `gr.Blocks`; the handlers are in `gendrpix.ui.compare.handlers`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.handlers = Comparing(engine, self)
        self._wire()

    # Wiring --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """Events get the photo as the uploaded file itself (`preprocess=False`): else Gradio would decode it.

        Gradio checks in either case that the file is one that was uploaded.
        """
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        handlers, inputs = self.handlers, self.inputs
        settings, hints = list(inputs.values()), [self.size_hint, self.expected]
        self.by_size.change(
            lambda by_size: {**shown(self.scale, not by_size), **shown(self.size_px, by_size)},
            self.by_size,
            [self.scale, self.size_px],
            **private,
        )
        sizing = [self.by_size.change, self.scale.release, self.size_px.change]
        placing = [box.change for box in self.crop.inputs.values()]
        again: dict[str, Any] = {"preprocess": False, "trigger_mode": "always_last", **private}
        chosen = self.photo.change(handlers.check_photo, settings, self.size_hint, **again)
        chosen.failure(lambda: (None, *[gr.update(visible=False)] * 2), None, [self.photo, *hints], **private)
        resized = gr.on([*sizing, *placing], handlers.check_photo, settings, self.size_hint, **again)
        costly = [self.restorers.change, self.padcfg.kind.change, self.options.repeats.change]
        for event in (chosen.success, resized.success, partial(gr.on, costly)):
            event(handlers.forecast, settings, self.expected, **again)
        self.padcfg.wire()
        self.crop.wire(self.photo)
        self.share.wire(self.session, inputs)
        self._wire_results(private)
        self._wire_runs(settings)
        options = self.options
        options.load.upload(handlers.load_settings, options.load, [*settings[1:], options.loaded], **private)

    def _wire_results(self, private: dict[str, Any]) -> None:
        handlers, viewer, maps = self.handlers, self.viewer, self.maps
        gr.on(
            [viewer.left.input, viewer.right.input],
            handlers.choose_pair,
            [self.session, viewer.left, viewer.right, maps.kind],
            [viewer.slider, self.download, self.whole, *maps.widgets, *self.share.widgets],
            **private,
        )
        maps.kind.input(handlers.draw_map, [self.session, maps.kind], maps.widgets, **private)
        history = self.history
        history.metric.input(history.shown, [history.runs, history.metric], history.widgets, **private)

    def _wire_runs(self, settings: list[Any]) -> None:
        handlers, known = self.handlers, [self.history.runs, self.history.metric]
        how: dict[str, Any] = {
            "preprocess": False,
            "api_visibility": "private",
            "show_progress": "full",
            "show_progress_on": self.status,
            "concurrency_id": COMPUTE,
            "concurrency_limit": 1,
        }
        self.buttons.run.click(handlers.run_restorers, [*known, *settings], self.views, **how)
        self.whole.click(handlers.run_whole, [*known, self.session], self.views, **how)

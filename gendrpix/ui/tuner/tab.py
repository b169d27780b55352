"""The PadCFG tuner: what a pad is, what each offset does on one's own picture, and which is best there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.ui.engine.engine import COMPUTE, Engine
from gendrpix.ui.tuner.handlers import Tuning
from gendrpix.ui.tuner.values import OWN
from gendrpix.ui.tuner.widgets import TunerWidgets


class TunerTab(TunerWidgets):
    """Widgets and wiring; the handlers are in `gendrpix.ui.tuner.handlers`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.tuning = Tuning(engine, self)
        self._wire()

    # Wiring --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        computing: dict[str, Any] = {**private, "concurrency_id": COMPUTE, "concurrency_limit": 1, "preprocess": False}
        shown = [self.slider, self.figures, self.crops, self.spectrum, self.heat, self.take_best]
        moved = [box.change for box in (*self.guidance, *self.region)]
        gr.on(
            moved,
            self.tuning.show,
            [*self.region, *self.guidance, self.swept],
            shown,
            trigger_mode="always_last",
            **computing,
        )
        drawn = [self.diagram, self.save, *self.offsets, self.omega]
        gr.on([box.change for box in self.guidance], self.tuning.describe, self.guidance, drawn, **private)
        self.preset.input(self.tuning.take_preset, self.preset, [self.omega, *self.offsets], **private)
        gr.on([box.input for box in self.offsets], lambda: OWN, None, self.preset, **private)
        self.load.upload(self.tuning.load, self.load, self.guidance, **private)
        self.photo.select(self.tuning.take_place, self.photo, [self.across, self.down], preprocess=False, **private)
        sweep_views = [
            self.heat,
            self.curve,
            self.take_best,
            self.progress,
            *self.buttons.widgets,
            self.swept,
            self.crops,
        ]
        self.buttons.run.click(
            self.tuning.run_sweep,
            [*self.region, *self.guidance, self.sweep_side, self.metric],
            sweep_views,
            **computing,
        )
        taking: list[Any] = [self.swept, self.omega, *self.offsets]
        self.heat.select(self.tuning.take_cell, taking, self.guidance, **private)
        self.take_best.click(self.tuning.take_best, taking, self.guidance, **private)

"""Crop first: a square of the photo on which every restorer is tried before one of them gets the whole photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.widgets.checks import check_filled
from gendrpix.ui.widgets.errors import user_errors
from gendrpix.ui.widgets.inputs import drawn_picture, place_sliders

SHOWN_PX = 480
"""Longer side of the photo as the panel shows it."""
DIMMED = 0.35
HINT = "Every restorer is quick on a part. Click the photo below to place it; then give the best one the whole photo."


class CropPanel:
    """Widgets and handlers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with gr.Accordion("Crop first: try on a part of the photo", open=False, elem_id="crop-panel"):
            gr.Markdown(HINT, elem_classes="hint")
            self.use = gr.Checkbox(False, label="Run on this part only", elem_id="crop")
            alt_text = "The photo with the chosen part bright; the sliders below place it as well"
            self.view = drawn_picture("The part", alt_text, "crop-view", buttons=[])
            self.side = gr.Slider(
                16, 512, value=96, step=8, label="Side, pixels of the photo", buttons=[], elem_id="crop-side"
            )
            self.across, self.down = place_sliders()

    @property
    def inputs(self) -> dict[str, Any]:
        """The settings by name."""
        return {"crop": self.use, "across": self.across, "down": self.down, "side_px": self.side}

    def wire(self, photo: gr.Image) -> None:
        """Draw the part whenever it or the photo changes; a click on the drawing places it."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "preprocess": False}
        places = [photo, *self.inputs.values()]
        changes = [box.change for box in places]
        gr.on(changes, self.draw, places, self.view, trigger_mode="always_last", **private)
        self.view.select(self.take_place, self.view, [self.across, self.down, self.use], **private)

    def draw(self, photo: Photo | None, use: bool, across: float, down: float, side_px: float) -> Any:
        """The photo, reduced, with what lies outside the part dimmed."""
        if photo is None:
            return gr.update(visible=False)
        with user_errors():
            check_filled(across, down, side_px)
            picture = self.engine.open_photo(photo["path"])
            box = core.place_box(
                picture.width, picture.height, across=across / 100, down=down / 100, side_px=int(side_px)
            )
            share = min(1.0, SHOWN_PX / max(picture.width, picture.height))
            shown = core.resize(picture.color, *(max(1, round(n * share)) for n in (picture.height, picture.width)))
            left, top, right, bottom = (round(place * share) for place in box.corners)
            dimmed = (shown + 1) * DIMMED - 1
            dimmed[..., top : bottom + 1, left : right + 1] = shown[..., top : bottom + 1, left : right + 1]
            return gr.update(value=core.to_pil(dimmed), visible=True)

    def take_place(self, view: Photo | None, event: gr.SelectData) -> tuple[Any, Any, bool]:
        """The place that was clicked, in percent; the part is used from then on."""
        with user_errors():
            if view is None:
                raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
            height, width = core.read_size(Path(view["path"]), self.engine.limits)
            x, y = event.index
            return round(100 * x / width), round(100 * y / height), True

"""Two pictures beside each other, the choice of them, and the loupe on all; for mouse, finger and keyboard."""

from __future__ import annotations

from importlib import resources
from typing import Any

import gradio as gr

from gendrpix.ui.engine.results import Results

SCRIPT = resources.files(__package__) / "viewer.js"
MARKUP = resources.files(__package__) / "viewer.html"
KEYS = (
    "Drag the divider, or reach it with Tab: **← →** move it, **F** flips between both pictures, **1** to **9** choose "
    "the right one, with **Shift** the left one. **Click** a point, or press **L**, for the loupe."
)
Updates = dict[Any, Any]


class Viewer:
    """Widgets, and how a run's pictures set them. The style sheet and `viewer.js` find them by their ids."""

    def __init__(self) -> None:
        with gr.Column(elem_id="view"):
            with gr.Row(visible=False, elem_id="pair") as self.pair:
                self.left = picture_choice("Left", "left")
                self.right = picture_choice("Right", "right")
            self.slider = gr.ImageSlider(
                label="Left and right",
                show_label=False,
                format="png",
                interactive=False,
                visible="hidden",  # there from the start, so that its code is loaded when the first picture comes
                max_height=1000,  # the style sheet keeps the scorecard in view as well
                buttons=["fullscreen"],
                elem_id="slider",
            )
            self.keys = gr.Markdown(KEYS, visible=False, elem_id="keys", elem_classes="hint")
            self.loupe = gr.HTML(
                [],
                html_template=MARKUP.read_text(encoding="utf-8"),
                js_on_load=SCRIPT.read_text(encoding="utf-8"),
                apply_default_css=False,
                elem_id="loupe",
            )

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` updates."""
        return [self.pair, self.left, self.right, self.slider, self.keys, self.loupe]

    def shown(self, results: Results) -> Updates:
        """The pictures that are ready, and the two that are beside each other."""
        left, right = results.pair
        choices = [(f"{number} {label}", label) for number, label in enumerate(results.labels, start=1)]
        return {
            self.pair: gr.update(visible=True),
            self.slider: gr.update(value=results.pair_files, visible=True),
            self.left: gr.update(choices=choices, value=left),
            self.right: gr.update(choices=choices, value=right),
            self.keys: gr.update(visible=True),
            self.loupe: [
                {"label": label, "file": {"path": str(path), "meta": {"_type": "gradio.FileData"}}}
                for label, path in results.files.items()
            ],
        }


def picture_choice(label: str, elem_id: str) -> gr.Radio:
    """One side's picture."""
    return gr.Radio([], label=label, min_width=200, elem_id=elem_id, elem_classes="chips")

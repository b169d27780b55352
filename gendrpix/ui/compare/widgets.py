"""The compare tab's widgets, and the settings and views that they make up."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.specs import CHOICE_LABELS, MAX_SCALE, MIN_SCALE
from gendrpix.ui.compare.share import SharePanel
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.panels.crop import CropPanel
from gendrpix.ui.panels.guidance import GuidancePanel
from gendrpix.ui.panels.maps import Maps
from gendrpix.ui.panels.options import OptionsPanel
from gendrpix.ui.panels.pareto import History
from gendrpix.ui.panels.viewer import Viewer
from gendrpix.ui.widgets.inputs import photo_input
from gendrpix.ui.widgets.run_buttons import RunButtons

Updates = dict[Any, Any]
EMPTY = (
    "<h3>Results appear here, one by one</h3>"
    "<div>Choose a photo or an example, then press <b>Run</b>. "
    "You can compare any two results with a slider while the others are still running.</div>"
)
CAUTION = (
    "Restorers guess what the photo does not show: **faces and text may be invented**. "
    "Do not take a restored detail as evidence."
)


class CompareWidgets:
    """The compare tab's widgets, and the settings and views that they make up."""

    def __init__(self, engine: Engine) -> None:
        self.session = gr.State(None)
        with gr.Row(elem_id="compare"):  # the style sheet places the three areas
            with gr.Column(min_width=300, elem_id="inputs"):
                self._build_inputs(engine)
            with gr.Column(min_width=300, elem_id="results"):
                self._build_results()
            with gr.Column(min_width=300, elem_id="padcfg"):
                self.padcfg = GuidancePanel()
                self.options = OptionsPanel()

    def _build_inputs(self, engine: Engine) -> None:
        self.photo = photo_input(
            "Photo",
            "The photo to restore",
            "photo",
            examples_id="examples",
            placeholder="Drop a photo, click to upload, or paste one",
        )
        self.restorers = gr.CheckboxGroup(
            choices=[(label, name) for name, label in CHOICE_LABELS.items()],
            value=list(CHOICE_LABELS),
            label="Restorers",
            info="Pix* is Pix without guidance: half the work.",
            elem_id="restorers",
        )
        with gr.Group():
            self.by_size = gr.Radio(
                [("Scale", False), ("Longer side", True)],
                value=False,
                label="Size of the result",
                elem_id="by-size",
            )
            self.scale = gr.Slider(
                MIN_SCALE, MAX_SCALE, value=4, step=0.25, label="Times larger", buttons=[], elem_id="scale"
            )
            self.size_px = gr.Number(
                1024, label="Pixels of the longer side", precision=0, minimum=1, visible=False, elem_id="size"
            )
        self.size_hint = gr.Markdown("", elem_classes="hint", elem_id="size-hint", visible=False)
        self.expected = gr.Markdown("", elem_classes="hint", elem_id="expected", visible=False)
        self.buttons = RunButtons("Run", "Running …", run_id="run", cancel_id="cancel")
        self.crop = CropPanel(engine)

    def _build_results(self) -> None:
        self.empty = gr.HTML(EMPTY, elem_id="empty")
        self.viewer = Viewer()
        self.status = gr.Markdown("", elem_id="status", elem_classes="hint", min_height=24)
        self.table = gr.Markdown("", visible=False, elem_id="scorecard")
        self.table_notes = gr.Markdown("", visible=False, elem_id="scorecard-notes", elem_classes="hint")
        with gr.Row():
            self.download = gr.DownloadButton("Download PNG", visible=False, elem_id="download", size="md")
            self.whole = gr.Button("On the whole photo", visible=False, elem_id="whole", size="md")
        self.maps = Maps()
        self.history = History()
        self.share = SharePanel()
        gr.Markdown(CAUTION, elem_id="caution", elem_classes="hint")

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of a run by name; links and requests go by these names."""
        return {
            "photo": self.photo,
            "restorers": self.restorers,
            "by_size": self.by_size,
            "scale": self.scale,
            "size_px": self.size_px,
            **self.padcfg.inputs,
            **self.crop.inputs,
            **self.options.inputs,
        }

    @property
    def views(self) -> list[Any]:
        """All that a run updates."""
        return [
            self.session,
            *self.buttons.widgets,
            self.whole,
            self.empty,
            *self.viewer.widgets,
            self.status,
            self.table,
            self.table_notes,
            self.download,
            *self.maps.widgets,
            *self.history.widgets,
            *self.share.widgets,
        ]

    def sized(self, scale: float | None, size_px: int | None) -> Updates:
        """A scale or a longer side that came from elsewhere; neither changes nothing."""
        if size_px is not None:
            return {
                self.by_size: True,
                self.size_px: gr.update(value=size_px, visible=True),
                **shown(self.scale, False),
            }
        if scale is not None:
            return {self.by_size: False, self.scale: gr.update(value=scale, visible=True), **shown(self.size_px, False)}
        return {}


def shown(widget: Any, visible: bool) -> Updates:
    """Show or hide one widget."""
    return {widget: gr.update(visible=visible)}

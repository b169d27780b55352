"""The tuner tab's widgets, and the settings that they make up."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.settings.presets import PRESETS
from gendrpix.specs import DEFAULT_OMEGA, MAX_OMEGA, MAX_SCALE, MIN_SCALE, NEG_PAD, POS_PAD
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.tuner.diagram import draw_pads
from gendrpix.ui.tuner.values import METRIC_LABELS, OWN
from gendrpix.ui.widgets.inputs import drawn_picture, offset_slider, photo_input, place_sliders
from gendrpix.ui.widgets.run_buttons import RunButtons

INTRO = (
    "GenDR-Pix writes its picture in patches of 8 x 8 pixels, and their edges can show. **PadCFG** runs it twice, with "
    "the picture shifted differently on that grid, and moves away from the second run by **omega**. "
    "Both runs are kept, so omega moves at once."
)
REGION_LINE = "Works on a square of the photo. Click the photo, or move the sliders, to choose another."
SWEEP_LINE = (
    "Tries all 64 offsets of one run while the other stays. In the map: rows down, columns across, brighter is better; "
    "**P** the paper's, **B** the best, **C** the chosen. Click a cell to take its offsets."
)
SIDES = [("Good run", "positive"), ("Bad run", "negative")]


class TunerWidgets:
    """The tuner tab's widgets, and the settings that they make up."""

    def __init__(self, engine: Engine) -> None:
        self.swept = gr.State(None)
        gr.Markdown(INTRO, elem_classes="intro")
        with gr.Row(elem_id="tuner", elem_classes="two"):
            with gr.Column(min_width=300):
                self._build_inputs()
            with gr.Column(min_width=300):
                self._build_views()

    def _build_inputs(self) -> None:
        self.photo = photo_input("Photo", "The photo to tune on", "tuner-photo", examples_id="tuner-examples")
        with gr.Accordion("Region and scale", open=False):
            gr.Markdown(REGION_LINE, elem_classes="hint")
            self.side = gr.Radio([256, 384, 512], value=256, label="Result, pixels a side", elem_id="tuner-side")
            self.across, self.down = place_sliders()
            self.scale = gr.Slider(MIN_SCALE, MAX_SCALE, value=4, step=0.25, label="Scale", buttons=[])
        self.preset = gr.Radio([*PRESETS, OWN], value="Paper", label="Preset", elem_id="preset")
        self.omega = gr.Slider(
            0,
            MAX_OMEGA,
            value=DEFAULT_OMEGA,
            step=0.05,
            label="Omega",
            info="1 is the good run alone. The paper names offsets, but no omega.",
            buttons=[],
            elem_id="tuner-omega",
        )
        with gr.Row():
            self.pos_rows = offset_slider("Good: rows", POS_PAD[0], "tuner-pos-rows")
            self.pos_columns = offset_slider("Good: columns", POS_PAD[1], "tuner-pos-columns")
        with gr.Row():
            self.neg_rows = offset_slider("Bad: rows", NEG_PAD[0], "tuner-neg-rows")
            self.neg_columns = offset_slider("Bad: columns", NEG_PAD[1], "tuner-neg-columns")
        self.diagram = gr.HTML(draw_pads(POS_PAD, NEG_PAD, "padcfg"), elem_id="pads")
        with gr.Row():
            self.save = gr.DownloadButton("Save as JSON", size="md", min_width=120, elem_id="save-preset")
            self.load = gr.UploadButton(
                "Load JSON", file_types=[".json"], type="binary", size="md", min_width=120, elem_id="load-preset"
            )

    def _build_views(self) -> None:
        self.slider = gr.ImageSlider(
            label="Input and result",
            show_label=False,
            format="png",
            interactive=False,
            visible="hidden",
            max_height=520,
            buttons=["fullscreen"],
            elem_id="tuner-slider",
        )
        self.figures = gr.Markdown(
            "Choose a photo to begin.", elem_classes="hint", elem_id="tuner-figures", min_height=24
        )
        with gr.Row():
            self.sweep_side = gr.Radio(SIDES, value="positive", label="Sweep the offsets of", min_width=150)
            self.metric = gr.Dropdown(
                [(label, name) for name, label in METRIC_LABELS.items()],
                value="grid",
                label="Scored by",
                min_width=150,
                elem_id="sweep-metric",
            )
        self.buttons = RunButtons("Sweep 64 offsets", "Sweeping …", run_id="sweep", cancel_id="sweep-cancel")
        gr.Markdown(SWEEP_LINE, elem_classes="hint")
        self.progress = gr.Markdown("", elem_classes="hint", elem_id="sweep-status", min_height=24)
        with gr.Row():
            alt_text = "Heat map of the 64 offsets; the sliders choose an offset as well"
            self.heat = drawn_picture("Offsets", alt_text, "heat", buttons=[], min_width=280)
            self.curve = gr.LinePlot(
                x="omega", y="score", x_title="Omega", visible=False, height=300, min_width=260, elem_id="omega-curve"
            )
        self.take_best = gr.Button("Take the best offsets", size="md", visible=False, elem_id="take-best")
        self.crops = drawn_picture("The middle of each result", "Crops side by side", "crops")
        self.use = gr.Button("Restore the whole photo with these on Compare", size="md", elem_id="use-on-compare")
        with gr.Accordion("Spectrum: is the 8-pixel grid there?", open=False, elem_id="spectrum-panel") as self.spectra:
            gr.Markdown(
                "Amplitudes of the spectrum, input left, result right; the circles are the harmonics of an 8-pixel "
                "period. Bright spots in the circles that the input lacks are the grid.",
                elem_classes="hint",
            )
            label = "Spectrum of the input and of the result"
            self.spectrum = drawn_picture(label, "Two spectra side by side, in dB", "spectrum", visible=True)

    @property
    def region(self) -> list[Any]:
        return [self.photo, self.across, self.down, self.side, self.scale]

    @property
    def guidance(self) -> list[Any]:
        return [self.preset, self.omega, *self.offsets]

    @property
    def offsets(self) -> list[gr.Slider]:
        return [self.pos_rows, self.pos_columns, self.neg_rows, self.neg_columns]

"""What few need on the compare tab: timed runs, colours, bits, a ground truth, settings out of a PNG."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.settings.restoration import RestoreSettings

MOST_REPEATS = 9
COLOR_LABELS = {"none": "As restored", "wavelet": "Wavelet", "adain": "AdaIN"}


class OptionsPanel:
    """Widgets, and how settings set them."""

    def __init__(self) -> None:
        with gr.Accordion("More: timing, colours, 16 bits, truth, settings from a PNG", open=False, elem_id="more"):
            self.repeats = gr.Slider(
                1,
                MOST_REPEATS,
                value=1,
                step=1,
                label="Timed runs of each",
                info="The time is their median. One run goes before and is not counted.",
                buttons=[],
                elem_id="repeats",
            )
            self.color_fix = gr.Radio(
                [(label, name) for name, label in COLOR_LABELS.items()],
                value="none",
                label="Colours of the result",
                info="Wavelet and AdaIN take the broad colours from your photo.",
                elem_id="color-fix",
            )
            self.bits = gr.Radio(
                [("8 bits", 8), ("16 bits", 16)], value=8, label="Downloaded PNG, bits a channel", elem_id="bits"
            )
            self.truth = gr.Image(
                label="Ground truth of the whole result's size: adds PSNR, SSIM and LPIPS",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                height=150,
                buttons=[],
                alt_text="The picture as it should be",
                elem_id="truth",
            )
            self.load = gr.UploadButton(
                "Load settings from PNG", file_types=[".png"], type="filepath", size="md", elem_id="load-settings"
            )
            self.loaded = gr.Markdown("", elem_classes="hint", elem_id="loaded", visible=False)

    @property
    def inputs(self) -> dict[str, Any]:
        """The settings by name."""
        return {"repeats": self.repeats, "color_fix": self.color_fix, "bits": self.bits, "truth": self.truth}

    def taken(self, settings: RestoreSettings) -> dict[Any, Any]:
        """Colours and bits of the settings."""
        return {self.color_fix: settings.color_fix, self.bits: settings.bits}

"""Widgets that several tabs share: the photo with its examples, drawn pictures, sliders of an offset and a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from gendrpix.files import ASSETS

EXAMPLES = ASSETS / "examples"


def example_photos() -> list[Path]:
    """The bundled example photos."""
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix in (".png", ".jpg"))


def photo_input(
    label: str, alt_text: str, elem_id: str, *, examples_id: str, placeholder: str | None = None
) -> gr.Image:
    """The box for a picture, handed on as a file path, and the bundled photos below it."""
    photo = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=190,
        buttons=[],
        placeholder=placeholder,
        alt_text=alt_text,
        elem_id=elem_id,
    )
    gr.Examples(
        [[str(path)] for path in example_photos()],
        inputs=[photo],
        label="Or try one of these",
        api_visibility="private",
        elem_id=examples_id,
    )
    return photo


def drawn_picture(label: str, alt_text: str, elem_id: str, **how: Any) -> gr.Image:
    """A picture that the server draws, hidden until it has; `how`: what differs from that."""
    fixed: dict[str, Any] = {"show_label": False, "format": "png", "type": "pil", "interactive": False}
    return gr.Image(
        label=label, alt_text=alt_text, elem_id=elem_id, **{**fixed, "visible": False, "buttons": ["fullscreen"], **how}
    )


def place_sliders() -> tuple[gr.Slider, gr.Slider]:
    """The centre of a part of a photo, in percent: (across, down)."""
    with gr.Row():
        across, down = (
            gr.Slider(0, 100, value=50, step=1, label=f"{way}, %", buttons=[], min_width=110)
            for way in ("Across", "Down")
        )
    return across, down


def offset_slider(label: str, value: int, elem_id: str) -> gr.Slider:
    """A slider for one PadCFG offset, 0 to 7 pixels."""
    return gr.Slider(0, 7, value=value, step=1, label=label, buttons=[], elem_id=elem_id, min_width=110)

"""What several tabs share: the bundled photos, and the slider of one offset."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"


def example_photos() -> list[Path]:
    """The bundled example photos."""
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix in (".png", ".jpg"))


def offset_slider(label: str, value: int, elem_id: str) -> gr.Slider:
    """A slider for one PadCFG offset, 0 to 7 pixels."""
    return gr.Slider(0, 7, value=value, step=1, label=label, buttons=[], elem_id=elem_id, min_width=110)


def check_filled(*values: object) -> None:
    """Raise ValueError where a number's box was emptied."""
    if None in values:
        raise ValueError("A number is missing; fill in the empty box.")

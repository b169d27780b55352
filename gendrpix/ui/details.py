"""What can be unfolded below a comparison: maps of differences, and how to make the right picture again."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.ui.results import Results
from gendrpix.ui.share import as_command, as_python

OFF, CONSISTENCY, DIFFERENCE = "Off", "Consistency", "Difference"
MAPS_LINE = (
    "**Consistency**: the right picture, reduced to your photo's size, against your photo; what is bright was "
    "invented or changed. **Difference**: the left picture against the right."
)
Updates = dict[Any, Any]


class Details:
    """Two accordions, hidden until there is a result."""

    def __init__(self) -> None:
        with gr.Accordion("Maps: where the pictures differ", open=False, visible=False, elem_id="maps") as self.maps:
            gr.Markdown(MAPS_LINE, elem_classes="hint")
            self.kind = gr.Radio(
                [OFF, CONSISTENCY, DIFFERENCE],
                value=OFF,
                label="Map",
                show_label=False,
                container=False,
                elem_id="map-kind",
            )
            self.mean = gr.Markdown("", elem_classes="hint", visible=False, elem_id="map-mean")
            self.map = gr.Image(
                label="Map",
                show_label=False,
                format="png",
                type="pil",
                visible=False,
                interactive=False,
                buttons=["download", "fullscreen"],
                alt_text="Heat map with its scale in percent of the full range",
                elem_id="map",
            )
        with gr.Accordion("Make this result again", open=False, visible=False, elem_id="again") as self.again:
            gr.Markdown(
                "Gives the same pixels on the same machine. Write your photo's path for its name. "
                "The PNG carries these settings too.",
                elem_classes="hint",
            )
            self.command = copied("Command", 2, "command")
            self.python = copied("Python", 5, "python")

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` updates."""
        return [self.maps, self.kind, self.mean, self.map, self.again, self.command, self.python]

    def shown(self, results: Results) -> Updates:
        """The right picture's command and Python."""
        lines = {self.command: as_command, self.python: as_python}
        record = results.right_record
        made = {box: write(record, results.photo_name, results.weights) for box, write in lines.items()}
        return {self.maps: gr.update(visible=True), self.again: gr.update(visible=True), **made}

    def reset(self) -> Updates:
        """No map, as at the start of a run."""
        return {self.kind: OFF, **self.drawn(None, OFF)}

    def drawn(self, results: Results | None, kind: str) -> Updates:
        """The map of the two pictures that are beside each other."""
        if results is None or kind == OFF:
            return {self.mean: gr.update(visible=False), self.map: gr.update(value=None, visible=False)}
        from gendrpix.compare import SCORED
        from gendrpix.images import open_picture
        from gendrpix.maps import consistency, difference, draw_heat

        left, right = results.pair
        shown = open_picture(results.files[right], SCORED).color
        if kind == CONSISTENCY:
            values = consistency(shown, open_picture(results.source).color)
            said = f"{right}, reduced, against your photo: a mean of {float(values.mean()):.2%} of the full range."
        else:
            values = difference(open_picture(results.files[left], SCORED).color, shown)
            said = f"{left} against {right}: a mean of {float(values.mean()):.2%} of the full range."
        drawn = gr.update(value=draw_heat(values), visible=True)
        return {self.mean: gr.update(value=said, visible=True), self.map: drawn}


def copied(label: str, lines: int, elem_id: str) -> gr.Textbox:
    """A text to be copied."""
    return gr.Textbox(
        label=label, lines=lines, max_lines=lines + 3, buttons=["copy"], interactive=False, elem_id=elem_id
    )

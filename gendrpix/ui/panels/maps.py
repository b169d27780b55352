"""Maps of where the pictures beside each other differ, unfolded below a comparison."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.results import Results
from gendrpix.ui.widgets.inputs import drawn_picture

OFF, CONSISTENCY, DIFFERENCE = "Off", "Consistency", "Difference"
MAPS_LINE = (
    "**Consistency**: the right picture, reduced to your photo's size, against your photo; what is bright was "
    "invented or changed. **Difference**: the left picture against the right."
)
Updates = dict[Any, Any]


class Maps:
    """An accordion, hidden until there is a result."""

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
            alt_text = "Heat map with its scale in percent of the full range"
            self.map = drawn_picture("Map", alt_text, "map", buttons=["download", "fullscreen"])

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` updates."""
        return [self.maps, self.kind, self.mean, self.map]

    def shown(self) -> Updates:
        """There is something to compare."""
        return {self.maps: gr.update(visible=True)}

    def reset(self) -> Updates:
        """No map, as at the start of a run."""
        return {self.kind: OFF, **self.drawn(None, OFF)}

    def drawn(self, results: Results | None, kind: str) -> Updates:
        """The map of the two pictures that are beside each other."""
        if results is None or kind == OFF:
            return {self.mean: gr.update(visible=False), self.map: gr.update(value=None, visible=False)}
        left, right = results.pair
        shown = core.open_picture(results.files[right], core.SCORED).color
        if kind == CONSISTENCY:
            values = core.consistency(shown, results.open_source().color)
            said = f"{right}, reduced, against your photo: a mean of {float(values.mean()):.2%} of the full range."
        else:
            values = core.difference(core.open_picture(results.files[left], core.SCORED).color, shown)
            said = f"{left} against {right}: a mean of {float(values.mean()):.2%} of the full range."
        drawn = gr.update(value=core.draw_heat(values), visible=True)
        return {self.mean: gr.update(value=said, visible=True), self.map: drawn}

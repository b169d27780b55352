"""The compare tab's guidance: kind, omega, offsets of both runs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import DEFAULT_OMEGA, MAX_OMEGA, NEG_PAD, POS_PAD
from gendrpix.ui.widgets.inputs import offset_slider

GUIDANCE_NAMES = {"padcfg": "PadCFG", "plain": "Plain CFG", "none": "Off"}
"""The page's words for the kinds of guidance."""
OMEGA_PRESETS = {"Mild 1": 1.0, "Crisp 1.25": 1.25, "Sharp 1.5": DEFAULT_OMEGA, "Harsh 2": 2.0}
"""Omegas by name; the paper names none."""
GUIDANCE_KINDS = tuple(GUIDANCE_NAMES.values())
PADCFG_LINE = "Runs Pix twice, shifted differently on its 8-pixel grid, and moves away from the worse run by omega."


class GuidancePanel:
    """Widgets, and how settings set them."""

    def __init__(self) -> None:
        with gr.Group():
            gr.Markdown(f"### PadCFG: the guidance of GenDR-Pix\n{PADCFG_LINE}", elem_classes="hint")
            self.kind = gr.Radio(
                GUIDANCE_KINDS,
                value=GUIDANCE_KINDS[0],
                label="Guidance",
                show_label=False,
                container=False,
                elem_id="guidance",
            )
            self.preset = gr.Radio(
                list(OMEGA_PRESETS.items()),
                value=DEFAULT_OMEGA,
                label="Omega, presets",
                elem_id="omega-preset",
                elem_classes="chips",
            )
            self.omega = gr.Slider(
                0,
                MAX_OMEGA,
                value=DEFAULT_OMEGA,
                step=0.05,
                label="Omega",
                info="1 is the good run alone; above 1 moves away from the bad one.",
                buttons=[],
                elem_id="omega",
            )
            with gr.Row():
                self.pos_rows = offset_slider("Good: rows", POS_PAD[0], "pos-rows")
                self.pos_columns = offset_slider("Good: columns", POS_PAD[1], "pos-columns")
            with gr.Row():
                self.neg_rows = offset_slider("Bad: rows", NEG_PAD[0], "neg-rows")
                self.neg_columns = offset_slider("Bad: columns", NEG_PAD[1], "neg-columns")

    @property
    def sliders(self) -> list[gr.Slider]:
        """Omega, then rows and columns of the good run and of the bad one."""
        return [self.omega, self.pos_rows, self.pos_columns, self.neg_rows, self.neg_columns]

    @property
    def widgets(self) -> list[Any]:
        """All that can be set."""
        return [self.kind, *self.sliders]

    @property
    def inputs(self) -> dict[str, Any]:
        """The settings by name."""
        names = ("guidance", "omega", "pos_rows", "pos_columns", "neg_rows", "neg_columns")
        return dict(zip(names, self.widgets, strict=True))

    def wire(self) -> None:
        """The kind says what can be moved; a preset moves omega, and omega shows whether it stands at one."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.kind.change(usable, self.kind, self.sliders, **private)
        self.preset.input(lambda omega: omega, self.preset, self.omega, **private)
        near = lambda omega: omega if omega in OMEGA_PRESETS.values() else None  # noqa: E731
        self.omega.change(near, self.omega, self.preset, **private)

    def taken(self, settings: RestoreSettings) -> dict[Any, Any]:
        """The guidance of a result; restorers that use none leave the widgets at PadCFG and their values."""
        if settings.guidance is None:
            return dict(zip(self.widgets, [GUIDANCE_KINDS[0], *usable(GUIDANCE_KINDS[0])], strict=True))
        return self.shown(settings)

    def shown(self, settings: RestoreSettings) -> dict[Any, Any]:
        """The guidance as the widgets show it."""
        kind = GUIDANCE_NAMES[settings.kind]
        omega = DEFAULT_OMEGA if settings.guidance is None else settings.guidance
        values = [omega, *(settings.pos_pad or POS_PAD), *(settings.neg_pad or NEG_PAD)]
        updates = [gr.update(interactive=state, value=value) for state, value in zip(states(kind), values, strict=True)]
        return dict(zip(self.widgets, [kind, *updates], strict=True))


def states(kind: str) -> list[bool]:
    """Which of the sliders have a say."""
    return [kind != "Off"] + [kind == "PadCFG"] * 4


def usable(kind: str) -> list[Any]:
    """Only what the chosen kind of guidance uses can be moved."""
    return [gr.update(interactive=state) for state in states(kind)]

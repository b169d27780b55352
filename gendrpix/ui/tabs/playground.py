"""Degrade and restore: a clean picture is damaged as one likes, restored, and measured against itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.settings.restoration import RestoreSettings, order_choices
from gendrpix.specs import CHOICE_LABELS, DEFAULT_OMEGA, MAX_SCALE, MIN_SCALE, UNGUIDED
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import COMPUTE, Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Job, Photo
from gendrpix.ui.engine.results import scorecard
from gendrpix.ui.widgets.checks import check_filled
from gendrpix.ui.widgets.errors import user_errors
from gendrpix.ui.widgets.inputs import photo_input
from gendrpix.ui.widgets.run_buttons import RunButtons

if TYPE_CHECKING:
    from torch import Tensor

    from gendrpix.comparison.degrade import Degradation
    from gendrpix.image.picture import Picture

MOST_PX = 512
CLEAN = "Clean"
INTRO = (
    "Take a clean picture, damage it, and see what the restorers bring back. Because the clean picture is known, "
    f"PSNR, SSIM and LPIPS can be measured. Of a large picture the middle {MOST_PX} × {MOST_PX} pixels are used."
)
Updates = dict[Any, Any]


class PlaygroundTab:
    """Widgets, wiring and handlers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shown = gr.State(None)
        gr.Markdown(INTRO, elem_classes="intro")
        with gr.Row(elem_id="playground", elem_classes="two"):
            with gr.Column(min_width=300):
                self._build_inputs()
            with gr.Column(min_width=300):
                self._build_views()
        self._wire()

    def _build_inputs(self) -> None:
        self.photo = photo_input("Clean picture", "The clean picture", "clean", examples_id="clean-examples")
        self.blur = gr.Slider(0, 4, value=0.8, step=0.1, label="Blur, pixels", buttons=[], elem_id="blur")
        self.factor = gr.Slider(
            MIN_SCALE, MAX_SCALE, value=4, step=1, label="Times smaller", buttons=[], elem_id="factor"
        )
        self.noise = gr.Slider(0, 20, value=1, step=0.5, label="Noise, % of the range", buttons=[], elem_id="noise")
        self.jpeg = gr.Slider(
            5, 100, value=85, step=1, label="JPEG quality", info="100: no JPEG", buttons=[], elem_id="jpeg"
        )
        self.seed = gr.Number(0, label="Seed of the noise", precision=0, minimum=0, elem_id="seed")
        self.restorers = gr.CheckboxGroup(
            choices=[(label, name) for name, label in CHOICE_LABELS.items()],
            value=["gendr", UNGUIDED],
            label="Restorers",
        )
        self.buttons = RunButtons("Restore", "Restoring …", run_id="play-run", cancel_id="play-cancel")

    def _build_views(self) -> None:
        with gr.Row():
            self.left = gr.Dropdown([], label="Left", min_width=120, visible=False)
            self.right = gr.Dropdown([], label="Right", min_width=120, visible=False)
        self.slider = gr.ImageSlider(
            label="Left and right",
            show_label=False,
            format="png",
            interactive=False,
            visible="hidden",
            max_height=560,
            buttons=["fullscreen"],
            elem_id="play-slider",
        )
        self.status = gr.Markdown("Choose a clean picture.", elem_classes="hint", elem_id="play-status", min_height=24)
        self.table = gr.Markdown("", visible=False, elem_id="play-table", elem_classes="scores")

    def _wire(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        settings: list[Any] = [self.photo, self.blur, self.factor, self.noise, self.jpeg, self.seed]
        views = [
            self.left,
            self.right,
            self.slider,
            self.status,
            self.table,
            self.shown,
            *self.buttons.widgets,
        ]
        gr.on(
            [box.change for box in settings],
            self.preview,
            settings,
            views,
            preprocess=False,
            trigger_mode="always_last",
            **private,
        )
        self.buttons.run.click(
            self.restore_clean,
            [*settings, self.restorers],
            views,
            preprocess=False,
            concurrency_id=COMPUTE,
            concurrency_limit=1,
            **private,
        )
        gr.on(
            [self.left.input, self.right.input],
            self.choose,
            [self.shown, self.left, self.right],
            self.slider,
            **private,
        )

    # Handlers ------------------------------------------------------------------------------------------------------

    def preview(self, photo: Photo | None, *values: float) -> Updates:
        """The degraded picture, enlarged, beside the clean one."""
        if not photo:
            return {self.slider: gr.update(visible="hidden"), self.status: "Choose a clean picture."}
        with user_errors():
            clean, degraded = self._degrade(photo, *values)
            enlarged = core.resize(degraded.color, clean.height, clean.width)
            pictures = {CLEAN: core.to_pil(clean.color), "Degraded": core.to_pil(enlarged)}
            said = f"{clean.width} × {clean.height} pixels, degraded to {degraded.width} × {degraded.height}."
            said += live_scores(enlarged, clean.color)
            hidden = gr.update(visible=False)
            return {**self._pictures(pictures, CLEAN, "Degraded"), self.status: said, self.table: hidden}

    def restore_clean(self, photo: Photo | None, *values: Any) -> Iterator[Updates]:
        """Degrade, restore with each, measure against the clean picture."""
        with user_errors():
            if not photo:
                raise ValueError("There is no picture yet. Upload or paste one, or choose an example.")
            *degradation, names = values
            if not names:
                raise ValueError("No restorer is chosen. Tick at least one.")
        stop = CancelToken()
        yield from self.buttons.guarded(stop, self._restore(photo, degradation, names, stop), self.ended)

    def _restore(self, photo: Photo, values: list[float], names: list[str], stop: CancelToken) -> Iterator[Updates]:
        yield {**self.buttons.running(stop), self.status: "Restoring."}
        clean, degraded = self._degrade(photo, *values)
        settings = RestoreSettings(scale=values[1], guidance=DEFAULT_OMEGA)
        job = Job(picture=degraded, names=order_choices(names, settings), settings=settings, truth=clean, warmup=0)
        for name in job.names:
            self.engine.pipeline(name)
        pictures = {CLEAN: core.to_pil(clean.color)}
        measured = []
        for one, _, image in self.engine.compare(job, stop):
            pictures[one.label] = image
            measured.append(one)
            table = without_costs(scorecard(job.labels, measured))
            shown = self._pictures(pictures, measured[0].label, one.label)
            yield {**shown, self.table: gr.update(value=table, visible=True)}
        said = ["Done."]
        if "gendr-pix" in job.names:
            said.append(f"GenDR-Pix ran with omega {DEFAULT_OMEGA:g}.")
        said.extend(dict.fromkeys(reason for one in measured for reason in one.scores.missing.values()))
        yield {**self.buttons.idle(), self.status: " ".join(said)}

    def choose(self, pictures: dict[str, Any] | None, left: str, right: str) -> Any:
        """Put two pictures beside each other."""
        if not pictures or left not in pictures or right not in pictures:
            return gr.skip()
        return (pictures[left], pictures[right])

    def ended(self, _: object, how: str) -> Updates:
        """What is said of a run that was cancelled or failed; the pictures that are ready stay."""
        return {self.status: how}

    def _pictures(self, pictures: dict[str, Any], left: str, right: str) -> Updates:
        labels = list(pictures)
        return {
            self.left: gr.update(choices=labels, value=left, visible=True),
            self.right: gr.update(choices=labels, value=right, visible=True),
            self.slider: gr.update(value=(pictures[left], pictures[right]), visible=True),
            self.shown: dict(pictures),
        }

    def _degrade(self, photo: Photo, *values: float) -> tuple[Picture, Picture]:
        """(clean, cropped; degraded)."""
        degradation = as_degradation(*values)
        clean = core.crop_clean(self.engine.open_photo(Path(photo["path"])).color, degradation.factor, MOST_PX)
        return core.Picture(color=clean), core.Picture(color=core.degrade(clean, degradation))


def as_degradation(blur: float, factor: float, noise: float, jpeg: float, seed: float | None) -> Degradation:
    """The sliders' values as a degradation."""
    check_filled(blur, factor, noise, jpeg)
    return core.Degradation(blur_px=blur, factor=int(factor), noise=noise / 100, jpeg=int(jpeg), seed=int(seed or 0))


def live_scores(enlarged: Tensor, clean: Tensor) -> str:
    """How far the degraded picture, enlarged, is from the clean one: what the restorers start from, in a sentence.

    Only what needs no weights and little time, so that it follows the sliders.
    """
    values = core.Scorer(["psnr", "ssim"]).score(enlarged, clean).values
    figures = []
    for name, value in values.items():
        spec = core.METRICS[name]
        figures.append(f"{spec.label} **{value:.{spec.digits}f}{f' {spec.unit}' if spec.unit else ''}**")
    return f" Enlarged again: {', '.join(figures)} against the clean picture." if figures else ""


def without_costs(table: Any) -> str:
    """The scorecard's names and qualities: times without a warm-up would mislead, so none is shown."""
    from dataclasses import replace

    costs = ("Time", "Speed", "Peak memory", "Device")
    kept = [i for i, heading in enumerate(table.header) if heading not in costs]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    small = replace(table, header=tuple(table.header[i] for i in kept), rows=rows)
    return str(small.to_markdown())

"""The compare tab: one photo, up to four restorers, any two pictures beside each other, one scorecard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.details import Details
from gendrpix.ui.engine import COMPUTE, Engine, Photo, Request, figures_alone, scorecard
from gendrpix.ui.errors import spoken
from gendrpix.ui.guidance_panel import GuidancePanel, usable
from gendrpix.ui.results import Results, save_result
from gendrpix.ui.samples import photo_input
from gendrpix.ui.share import recipe_line
from gendrpix.ui.stopping import Stop

if TYPE_CHECKING:
    from gendrpix.compare import Record

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


class CompareTab:
    """Widgets, wiring and handlers. Built inside a `gr.Blocks`; the handlers return updates keyed by widget."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.session = gr.State(None)
        self.stop = gr.State(None)
        with gr.Row(elem_id="compare"):  # the style sheet places the three areas
            with gr.Column(min_width=300, elem_id="inputs"):
                self._build_inputs()
            with gr.Column(min_width=300, elem_id="results"):
                self._build_results()
            with gr.Column(min_width=300, elem_id="padcfg"):
                self.padcfg = GuidancePanel()
        self._wire()

    # Widgets -------------------------------------------------------------------------------------------------------

    def _build_inputs(self) -> None:
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
        self.scale = gr.Slider(1, 8, value=4, step=0.25, label="Scale", buttons=[], elem_id="scale")
        self.size_hint = gr.Markdown("", elem_classes="hint", elem_id="size-hint", visible=False)
        with gr.Row():
            self.run = gr.Button("Run", variant="primary", elem_id="run", scale=3, min_width=140)
            self.cancel = gr.Button(
                "Cancel", variant="secondary", elem_id="cancel", scale=1, min_width=100, interactive=False
            )
        with gr.Accordion("More: settings from a PNG, ground truth", open=False, elem_id="more"):
            self.load = gr.UploadButton(
                "Load settings from PNG", file_types=[".png"], type="filepath", size="md", elem_id="load-settings"
            )
            self.loaded = gr.Markdown("", elem_classes="hint", elem_id="loaded", visible=False)
            self.truth = gr.Image(
                label="Ground truth of the result's size: adds PSNR, SSIM and LPIPS",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard"],
                height=150,
                buttons=[],
                alt_text="The picture as it should be",
                elem_id="truth",
            )

    def _build_results(self) -> None:
        with gr.Row(visible=False, elem_id="pair") as self.pair:
            self.left = gr.Dropdown([], label="Left", min_width=120, elem_id="left")
            self.right = gr.Dropdown([], label="Right", min_width=120, elem_id="right")
        self.empty = gr.HTML(EMPTY, elem_id="empty")
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
        self.status = gr.Markdown("", elem_id="status", elem_classes="hint", min_height=24)
        self.table = gr.Markdown("", visible=False, elem_id="scorecard")
        self.table_notes = gr.Markdown("", visible=False, elem_id="scorecard-notes", elem_classes="hint")
        self.download = gr.DownloadButton("Download PNG", visible=False, elem_id="download", size="md")
        self.details = Details()
        gr.Markdown(CAUTION, elem_id="caution", elem_classes="hint")

    # Wiring --------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> list[Any]:
        """The inputs of a run, in the order of `_run`'s parameters."""
        return [
            self.photo,
            self.restorers,
            self.scale,
            self.padcfg.kind,
            *self.padcfg.sliders,
            self.truth,
        ]

    def _wire(self) -> None:
        """Events get the photo as the uploaded file itself (`preprocess=False`): else Gradio would decode it.

        Gradio checks in either case that the file is one that was uploaded.
        """
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        checked = self.photo.change(
            self.check_photo, [self.photo, self.scale], self.size_hint, preprocess=False, **private
        )
        checked.failure(lambda: (None, gr.update(visible=False)), None, [self.photo, self.size_hint], **private)
        self.scale.release(self.check_photo, [self.photo, self.scale], self.size_hint, preprocess=False, **private)
        self.padcfg.kind.input(usable, self.padcfg.kind, self.padcfg.sliders, **private)
        gr.on(
            [self.left.input, self.right.input],
            self.choose_pair,
            [self.session, self.left, self.right, self.details.kind],
            [self.slider, self.download, *self.details.widgets],
            **private,
        )
        self.details.kind.input(self.draw_map, [self.session, self.details.kind], self.details.widgets, **private)
        self.load.upload(
            self.load_settings,
            self.load,
            [self.restorers, self.scale, *self.padcfg.widgets, self.loaded],
            **private,
        )
        views = [
            self.session,
            self.pair,
            self.left,
            self.right,
            self.empty,
            self.slider,
            self.status,
            self.table,
            self.table_notes,
            self.download,
            self.run,
            self.cancel,
            self.stop,
            *self.details.widgets,
        ]
        running = self.run.click(
            self.run_restorers,
            self.settings,
            views,
            preprocess=False,
            api_visibility="private",
            show_progress="full",
            show_progress_on=self.status,
            concurrency_id=COMPUTE,
            concurrency_limit=1,
        )
        running.failure(self.show_stopped, self.session, views, **private)
        self.cancel.click(
            self.show_cancelled, [self.session, self.stop], views, cancels=[running], queue=False, **private
        )

    # Handlers ------------------------------------------------------------------------------------------------------

    def check_photo(self, photo: Photo | None, scale: float) -> Any:
        """Read the photo at once, so that a broken one is refused when it is chosen; tell both sizes."""
        if photo is None:
            return gr.update(visible=False)
        with spoken():
            return gr.update(value=self.engine.read_sizes(photo, scale), visible=True)

    def choose_pair(self, results: Results | None, left: str, right: str, kind: str = "Off") -> Updates:
        """Show the two chosen pictures and their map; the right one is what Download saves."""
        if results is None:
            return {self.slider: gr.skip()}
        with spoken():
            results.choose(left, right)
            shown = {self.slider: results.pair_files, self.download: self._download(results)}
            return {**shown, **self.details.shown(results), **self.details.drawn(results, kind)}

    def draw_map(self, results: Results | None, kind: str) -> Updates:
        """The map of the pictures beside each other."""
        with spoken():
            return self.details.drawn(results, kind)

    def load_settings(self, path: str) -> Updates:
        """Take the settings that a result's PNG carries."""
        from gendrpix.presets import Recipe

        with spoken():
            recipe = Recipe.from_png(Path(path))
            digest = self.engine.digest(recipe.restorer)
            line = recipe_line(recipe, weights=self.engine.weights_name, weights_sha256=digest)
            return {
                self.restorers: [recipe.restorer],
                self.scale: gr.skip() if recipe.scale is None else recipe.scale,
                **self.padcfg.taken(recipe),
                self.loaded: gr.update(value=line, visible=True),
            }

    def run_restorers(
        self,
        photo: Photo | None,
        restorers: list[str],
        scale: float,
        kind: str,
        omega: float,
        pos_rows: int,
        pos_columns: int,
        neg_rows: int,
        neg_columns: int,
        truth: Photo | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way
    ) -> Iterator[Updates]:
        """Run: the input first, then each result as it is ready."""
        offsets = (pos_rows, pos_columns, neg_rows, neg_columns)
        with spoken():
            request = Request.from_widgets(photo, restorers, scale, kind, omega, *offsets, truth=truth)
            yield from self._run(request, progress)

    def _run(self, request: Request, progress: gr.Progress) -> Iterator[Updates]:
        stop = Stop()
        yield {**self._buttons(running=True), self.stop: stop, self.status: "", **self.details.reset()}
        progress(0, desc="Reading the photo")
        job = self.engine.prepare(request)
        results = Results(job.labels, request.photo, request.photo_name, self.engine.weights_name)
        stream = self.engine.compare(job, stop)
        names = ["the input", *job.labels]
        for step, name in enumerate(names):
            progress((step, len(names)), desc=f"Measuring {name}" if step == 0 else f"Running {name}")
            record = next(stream)
            entries = self.engine.png_entries(record, request.photo)
            path = save_result(record.image, results.folder, request.stem, record.name, entries)
            results.add(figures_alone(record), path)
            yield {self.session: results, **self._shown(results), **self._scored(results)}
        yield {**self._buttons(running=False), self.status: summary(results.records)}

    def show_stopped(self, results: Results | None) -> Updates:
        """After an error: the buttons as before; what is ready stays."""
        return {**self._buttons(running=False), **self._scored(results, stopped=True), self.status: ""}

    def show_cancelled(self, results: Results | None, stop: Stop | None = None) -> Updates:
        """Cancel: the computation under way ends within one layer; what is ready stays, said in words."""
        if stop is not None:
            stop.set()
        done = max(0, len(results.labels) - 1) if results else 0
        kept = f"{done} finished result{'s' * (done != 1)} kept." if done else "No restorer had finished."
        return {**self.show_stopped(results), self.status: f"Cancelled. {kept}"}

    def _buttons(self, *, running: bool) -> Updates:
        return {
            self.run: gr.update(interactive=not running, value="Running …" if running else "Run"),
            self.cancel: gr.update(interactive=running),
        }

    def _shown(self, results: Results) -> Updates:
        left, right = results.pair
        return {
            self.empty: gr.update(visible=False),
            self.pair: gr.update(visible=True),
            self.slider: gr.update(value=results.pair_files, visible=True),
            self.left: gr.update(choices=results.labels, value=left),
            self.right: gr.update(choices=results.labels, value=right),
            self.download: self._download(results),
            **self.details.shown(results),
        }

    def _download(self, results: Results) -> Any:
        _, label = results.pair
        path = str(results.files[label])
        return gr.update(value=path, label=f"Download {label} as PNG", visible=True)

    def _scored(self, results: Results | None, *, stopped: bool = False) -> Updates:
        if results is None:
            return {}
        table = scorecard(results.expected, results.records, stopped=stopped)
        return {
            self.table: gr.update(value=table.to_markdown(), visible=True),
            self.table_notes: gr.update(value=" ".join(table.notes), visible=bool(table.notes)),
        }


def summary(records: list[Record]) -> str:
    """One sentence once all is done."""
    fastest = min((record for record in records if record.seconds), key=lambda record: record.seconds or 0.0)
    if fastest.ratio is None or fastest.ratio <= 1:
        return "Done."
    return f"Done. {fastest.label} was the fastest: {fastest.ratio:.1f} times as fast as {CHOICE_LABELS['gendr']}."

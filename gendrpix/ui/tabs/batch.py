"""Many pictures at once: files, folders or zip files in, a zip file of results out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS, COLOR_FIXES, DEFAULT_OMEGA, MAX_OMEGA, MAX_SCALE, MIN_SCALE, UNGUIDED
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.runs.batch import MAX_PICTURES, Batch, key_of
from gendrpix.ui.widgets.checks import check_filled, progress_line
from gendrpix.ui.widgets.errors import user_errors
from gendrpix.ui.widgets.run_buttons import RunButtons

if TYPE_CHECKING:
    from gendrpix.jobs.tasks import Outcome

INTRO = (
    "Restores many pictures with the same settings and gives back one zip file: the results as PNG, small previews "
    "and a CSV report. A picture that cannot be read does not stop the others."
)
COMMAND_LINE = (
    f"Up to {MAX_PICTURES} pictures. A folder's subfolders are lost on the way here; a zip file keeps them. "
    "For more: `python -m gendrpix restore PHOTOS -o restored --report report.csv`"
)
BY_SCALE, BY_SIZE = "Scale", "Longer side"
HEADER = ["Picture", "State", "Result", "Model's time"]
SHOWN_EVERY_S = 1.0
MOST_PREVIEWS = 60
Updates = dict[Any, Any]


class BatchTab:
    """Widgets, wiring and handlers. What it restores is `gendrpix.ui.runs.batch`'s."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.batch = gr.State(None)
        self.inside = gr.State([])  # a folder's files: too many to be listed by the box above
        gr.Markdown(INTRO, elem_classes="intro")
        with gr.Row(elem_id="batch", elem_classes="two"):
            with gr.Column(min_width=300):
                self._build_inputs()
            with gr.Column(min_width=300):
                self._build_views()
        self._wire()

    # Widgets -------------------------------------------------------------------------------------------------------

    def _build_inputs(self) -> None:
        self.files = gr.File(
            label="Pictures or zip files", file_count="multiple", type="filepath", height=190, elem_id="batch-files"
        )
        self.folder = gr.UploadButton("Choose a folder", file_count="directory", size="md", elem_id="batch-folder")
        gr.Markdown(COMMAND_LINE, elem_classes="hint")
        self.restorer = gr.Radio(
            choices=[(label, name) for name, label in CHOICE_LABELS.items()],
            value=UNGUIDED,
            label="Restorer",
            elem_id="batch-restorer",
        )
        self.omega = gr.Slider(
            0,
            MAX_OMEGA,
            value=DEFAULT_OMEGA,
            step=0.05,
            label="Omega",
            info="PadCFG with the paper's offsets.",
            buttons=[],
            visible=False,
            elem_id="batch-omega",
        )
        self.by = gr.Radio([BY_SCALE, BY_SIZE], value=BY_SCALE, label="Size of the results by", elem_id="batch-by")
        self.scale = gr.Slider(
            MIN_SCALE, MAX_SCALE, value=4, step=0.25, label="Scale", buttons=[], elem_id="batch-scale"
        )
        self.size = gr.Number(
            2048,
            label="Longer side, pixels",
            info="1 to 8 times the picture's own.",
            precision=0,
            minimum=1,
            visible=False,
            elem_id="batch-size",
        )
        with gr.Accordion("More: colours, 16 bits", open=False):
            self.color_fix = gr.Radio(
                list(COLOR_FIXES), value="none", label="Take the colours from the photo", elem_id="batch-color"
            )
            self.deep = gr.Checkbox(False, label="16-bit PNG", elem_id="batch-deep")

    def _build_views(self) -> None:
        self.buttons = RunButtons("Restore all", "Restoring …", run_id="batch-run", cancel_id="batch-cancel")
        self.status = gr.Markdown(
            "Choose pictures to begin.", elem_classes="hint", elem_id="batch-status", min_height=24
        )
        self.download = gr.DownloadButton("Download zip", visible=False, elem_id="batch-download", size="md")
        self.table = gr.Dataframe(
            headers=HEADER,
            datatype="str",
            interactive=False,
            visible=False,
            wrap=True,
            max_height=340,
            buttons=[],
            elem_id="batch-table",
        )
        self.previews = gr.Gallery(
            label="Results, small",
            columns=4,
            height="auto",
            object_fit="contain",
            format="jpeg",
            visible=False,
            interactive=False,
            buttons=[],
            elem_id="batch-previews",
        )

    # Wiring --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """The run has no concurrency id of its own: pictures take turns with other visitors' one by one."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.restorer.input(lambda name: gr.update(visible=name == "gendr-pix"), self.restorer, self.omega, **private)
        self.by.input(
            lambda by: [gr.update(visible=by == BY_SCALE), gr.update(visible=by == BY_SIZE)],
            self.by,
            [self.scale, self.size],
            **private,
        )
        said = [self.status, self.buttons.run]
        self.folder.upload(
            self.take_folder, [self.files, self.folder], [self.inside, *said], preprocess=False, **private
        )
        self.files.change(self.say_files, [self.files, self.inside], said, preprocess=False, **private)
        settings = [self.restorer, self.omega, self.by, self.scale, self.size, self.color_fix, self.deep]
        views = [
            self.batch,
            *self.buttons.widgets,
            self.status,
            self.download,
            self.table,
            self.previews,
        ]
        self.buttons.run.click(
            self.run_chosen,
            [self.files, self.inside, self.batch, *settings],
            views,
            preprocess=False,
            **private,
        )

    # Handlers ------------------------------------------------------------------------------------------------------

    def take_folder(self, files: list[Photo] | None, folder: list[Photo] | None) -> tuple[list[Photo], str, Any]:
        """A folder's pictures and zip files, in place of an earlier folder's; what is chosen now, a fresh button."""
        inside = [one for one in folder or [] if core.is_picture(name_of(one)) or name_of(one).lower().endswith(".zip")]
        if not inside:
            raise gr.Error("The folder holds no pictures.", duration=12, title="That did not work")
        return inside, *self.say_files(files, inside)

    def say_files(self, files: list[Photo] | None, inside: list[Photo]) -> tuple[str, Any]:
        """What is chosen, and a fresh button."""
        count = len(files or []) + len(inside)
        said = f"{count} file{'s' * (count != 1)} chosen." if count else "Choose pictures to begin."
        return said, gr.update(value="Restore all")

    def run_chosen(self, files: list[Photo] | None, inside: list[Photo], *rest: Any) -> Iterator[Updates]:
        """Run: the files of the box and those of the folder."""
        yield from self.run_batch([*(files or []), *inside], *rest)

    def run_batch(self, files: list[Photo] | None, batch: Batch | None, *settings: Any) -> Iterator[Updates]:
        """Restore what is not there yet; then, as after Cancel, the zip file of what is."""
        with user_errors():
            if not files:
                raise ValueError("There are no pictures yet. Choose files, a folder or a zip file.")
            asked = as_settings(*settings)
        stop = CancelToken()
        yield from self.buttons.guarded(stop, self._run(files, batch, asked, stop), self.ended)

    def _run(
        self, files: list[Photo], batch: Batch | None, settings: RestoreSettings, stop: CancelToken
    ) -> Iterator[Updates]:
        yield {**self.buttons.running(stop), self.status: "Reading the list of pictures."}
        if batch is None or batch.key != key_of(files):
            batch = Batch(files)
        stop.kept = batch
        yield {self.batch: batch, self.download: gr.update(visible=False), **self._listed(batch, "waiting")}
        start = shown = time.perf_counter()
        for number, _ in enumerate(batch.restore(self.engine, settings, stop), start=1):
            now = time.perf_counter()
            if now - shown > SHOWN_EVERY_S:
                shown = now
                said = progress_line(number, len(batch.tasks), "pictures", now - start)
                yield {self.status: said, **self._listed(batch, "waiting")}
        yield {**self.buttons.idle(), **self._finished(batch, "")}

    def ended(self, batch: Batch | None, how: str) -> Updates:
        """After a cancel or an error, before all was done: what is ready can be downloaded, and a button goes on."""
        if batch is None:
            return {self.status: how}
        views = self._finished(batch, f"{how} ")
        if len(batch.done) < len(batch.tasks):
            views[self.buttons.run] = gr.update(interactive=True, value="Go on")
        return views

    # Views ---------------------------------------------------------------------------------------------------------

    def _finished(self, batch: Batch, began: str) -> Updates:
        packed = batch.pack()
        label = f"Download zip ({len(batch.done)} result{'s' * (len(batch.done) != 1)})"
        shown = gr.update(visible=False) if packed is None else gr.update(value=str(packed), label=label, visible=True)
        said = began + summary(batch.listed(), len(batch.tasks) + len(batch.refused), batch.num_others)
        return {self.status: said, self.download: shown, **self._listed(batch, "not done")}

    def _listed(self, batch: Batch, pending: str) -> Updates:
        ended = [row(outcome) for outcome in batch.listed()]
        left = [[picture.name, pending, "", ""] for task, picture in batch.tasks.items() if task not in batch.outcomes]
        small = [(batch.thumbnail(task), batch.tasks[task].name) for task in batch.done]
        drawn = [(str(path), name) for path, name in small if path.is_file()][:MOST_PREVIEWS]
        return {
            self.table: gr.update(value=ended + left, visible=True),
            self.previews: gr.update(value=drawn, visible=bool(drawn)),
        }


def name_of(file: Photo) -> str:
    """The file's own name; a client of the API may name folders too, a browser never does."""
    return str(file.get("orig_name") or file["path"])


def as_settings(
    restorer: str, omega: float, by: str, scale: float, size: float | None, color_fix: str, deep: bool
) -> RestoreSettings:
    """The widgets' values as settings. Raises SettingsError for what is refused."""
    check_filled(omega, scale, size)
    return RestoreSettings(
        restorer=restorer,  # type: ignore[arg-type] # checked there, as all of them
        guidance=omega if restorer == "gendr-pix" else None,
        scale=scale if by == BY_SCALE else None,
        size_px=size if by == BY_SIZE else None,  # type: ignore[arg-type]
        color_fix=color_fix,  # type: ignore[arg-type]
        bits=16 if deep else 8,
    )


def row(outcome: Outcome) -> list[str]:
    """One line of the table."""
    words = {"restored": "done", "skipped": "done before", "failed": "failed"}
    size = "" if outcome.result_size is None else f"{outcome.result_size[0]} × {outcome.result_size[1]}"
    detail = outcome.reason or "; ".join((size, *outcome.notes))
    seconds = "" if outcome.seconds is None else core.format_seconds(outcome.seconds)
    return [str(outcome.task.source), words[outcome.status], detail, seconds]


def summary(outcomes: Sequence[Outcome], total: int, num_others: int) -> str:
    """What became of all, in a sentence or two."""
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    said = f"{len(outcomes) - failed} of {total} pictures restored"
    said += f", {failed} failed (the table says why)." if failed else "."
    return said + (f" {num_others} other file{'s' * (num_others != 1)} left out." if num_others else "")

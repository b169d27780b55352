"""One visitor's batch: uploaded pictures and zip files in, results and a report in a zip file out.

Restored by the same call as `python -m gendrpix restore`; finished results stay, so that a stopped batch goes on
where it was.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gendrpix.settings.recipe import write_recipe
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.engine.cancel import CancelToken, StoppedError, TimeLimitError
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.engine.zerogpu import on_zero_gpu

if TYPE_CHECKING:
    from torch import Tensor

    from gendrpix.image.picture import Picture
    from gendrpix.jobs.archives import Named, Unpacked
    from gendrpix.jobs.batch import Calls, Streamed
    from gendrpix.jobs.tasks import Outcome, Task

MAX_PICTURES = 500
THUMBNAIL_PX = 256
ZIP_NAME = "restored.zip"
FORMULA = ("=", "+", "-", "@")
"""What makes a spreadsheet compute a cell."""


class Batch:
    """The pictures of some uploads and what has become of them, in a folder that is removed with this object."""

    def __init__(self, uploads: Sequence[Photo]) -> None:
        """Unpack and list the uploads. Raises ValueError for too many, and for a zip file that is refused."""
        self.key = key_of(uploads)
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-batch-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        pictures, refused, self.num_others = self._gather(uploads)
        self.tasks: dict[Task, Named] = {}
        """What is to be done, with each picture's own name."""
        for picture in core.without_twins(pictures):
            self.tasks[core.Task(source=picture.path, target=self.folder / result_name(picture.name))] = picture
        self.refused = [
            core.Outcome(task=core.Task(source=Path(name), target=result_name(name)), status="failed", reason=reason)
            for name, reason in refused
        ]
        self.outcomes: dict[Task, Outcome] = {}
        """What has become of the tasks, in the order in which they ended."""

    def _gather(self, uploads: Sequence[Photo]) -> tuple[list[Named], list[tuple[str, str]], int]:
        """(pictures, those refused with the reason, number of other files)."""
        pictures: list[Named] = []
        refused: list[tuple[str, str]] = []
        others = 0
        for number, upload in enumerate(uploads):
            path, name = Path(upload["path"]), str(upload.get("orig_name") or Path(upload["path"]).name)
            if path.suffix.lower() == ".zip":
                found = self._unpack(path, self.folder / f"zip{number}", pictures)
                pictures.extend(found.pictures)
                refused.extend(found.refused)
                others += found.num_others
            elif core.is_picture(name):
                pictures.append(core.Named(path=path, name=core.plain_name(name)))
            else:
                others += 1
        if len(pictures) > MAX_PICTURES:
            raise ValueError(
                f"These are {len(pictures)} pictures and {MAX_PICTURES} are accepted at once; choose fewer, or use the "
                "command line."
            )
        if not pictures and not refused:
            raise ValueError("There are no pictures among these files; choose pictures or a zip file of them.")
        return pictures, refused, others

    def _unpack(self, path: Path, folder: Path, before: Sequence[Named]) -> Unpacked:
        """Unpack a zip file within what the ones before it have left."""
        used = sum(one.path.stat().st_size for one in before if one.path.is_relative_to(self.folder))
        limits = core.ZipLimits(max_files=MAX_PICTURES)
        return core.unpack(path, folder, replace(limits, max_total_bytes=max(0, limits.max_total_bytes - used)))

    # Restoring -----------------------------------------------------------------------------------------------------

    def restore(self, engine: Engine, settings: RestoreSettings, stop: CancelToken) -> Iterator[Outcome]:
        """Restore what is not there yet, each picture while no other visitor's computation runs. `stop` ends it."""
        news: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        self.outcomes = {task: one for task, one in self.outcomes.items() if one.status != "failed"}
        own = core.own_offsets(core.find_restorer_folder(settings.restorer, engine.weights))
        settings = settings.resolved(**own, dtype=core.dtype_name(engine.dtype))
        digest = engine.digest(settings.restorer)

        def recipe(input_sha256: str) -> dict[str, Any]:
            name = engine.weights_name
            return write_recipe(settings, weights=name, weights_sha256=digest, input_sha256=input_sha256)

        def finish(outcome: Outcome) -> None:
            self._take(outcome)
            news.put(self.outcomes[outcome.task])

        def work() -> None:
            try:
                load = calls_of(engine, settings, stop)
                limits = engine.limits
                whole = limits.max_output_pixels if on_zero_gpu() else core.WHOLE_PIXELS
                tasks = list(self.tasks)
                core.restore_files(
                    tasks, load, settings, recipe, finish, overwrite=True, limits=limits, whole_pixels=whole
                )
                news.put(None)
            except BaseException as error:  # noqa: BLE001 - raised again where the visitor is told
                news.put(error)

        threading.Thread(target=work, name="gendrpix-batch", daemon=True).start()
        try:
            while (one := news.get()) is not None:
                if isinstance(one, BaseException):
                    raise one.__cause__ if isinstance(one, KeyboardInterrupt) and one.__cause__ else one
                yield one
        finally:
            stop.set()

    def _take(self, outcome: Outcome) -> None:
        """Keep an outcome, and of a result that was there already what was said when it was made; draw it small."""
        known = self.outcomes.get(outcome.task)
        if outcome.status == "skipped" and known is not None:
            outcome = known
        self.outcomes[outcome.task] = outcome
        if outcome.status == "restored":
            draw_thumbnail(outcome.task.target, self.thumbnail(outcome.task))

    def thumbnail(self, task: Task) -> Path:
        """Where the small picture of a task's result is."""
        return self.folder / "thumbnails" / PurePosixPath(self.tasks[task].name).with_suffix(".jpg")

    # What came of it -----------------------------------------------------------------------------------------------

    @property
    def done(self) -> list[Task]:
        """The tasks whose results are there, in their order."""
        return [task for task in self.tasks if task in self.outcomes and self.outcomes[task].status != "failed"]

    def listed(self) -> list[Outcome]:
        """Outcomes under the pictures' own names, in the order of the uploads; the refused ones last."""
        found = []
        for task, picture in self.tasks.items():
            if outcome := self.outcomes.get(task):
                reason = outcome.reason.replace(repr(task.source.name), repr(PurePosixPath(picture.name).name))
                named = core.Task(source=Path(picture.name), target=result_name(picture.name))
                found.append(replace(outcome, task=named, reason=reason))
        return [*found, *self.refused]

    def pack(self) -> Path | None:
        """The zip file of all that is ready, or None where nothing is."""
        done = self.done
        if not done:
            return None
        folder = Path(tempfile.mkdtemp(dir=self.folder))  # an earlier one may be on its way to the visitor
        core.write_report(map(without_formula, self.listed()), folder / "report.csv")
        files = [core.Named(path=folder / "report.csv", name="report.csv")]
        for task in done:
            files.append(core.Named(path=task.target, name=result_name(self.tasks[task].name).as_posix()))
            if (small := self.thumbnail(task)).is_file():
                files.append(core.Named(path=small, name=small.relative_to(self.folder).as_posix()))
        return core.pack(files, folder / ZIP_NAME)


def key_of(uploads: Sequence[Photo]) -> tuple[str, ...]:
    """What tells one set of uploads from another."""
    return tuple(str(upload["path"]) for upload in uploads)


def calls_of(engine: Engine, settings: RestoreSettings, stop: CancelToken) -> Callable[[], Calls]:
    """Loads the core's calls, within the visitor's turn. What ends the run is to it as Ctrl+C to the command line."""

    def load() -> Calls:
        calls = core.calls_of(engine.pipeline(settings.restorer), settings, overwrite=True)

        @contextlib.contextmanager
        def turn() -> Iterator[None]:
            try:
                with engine.turn(stop):
                    yield
            except (StoppedError, TimeLimitError) as error:
                raise KeyboardInterrupt from error

        def restore(pictures: Sequence[Picture]) -> Sequence[Tensor]:
            with turn():
                return calls.whole(pictures)

        def stream(picture: Picture, path: Path, entries: Mapping[str, str]) -> Streamed:
            assert calls.banded is not None
            with turn():
                return calls.banded(picture, path, entries)

        return core.Calls(restore, stream)

    return load


def result_name(name: str) -> Path:
    """Where a picture's result lies in the zip file."""
    return Path("results") / PurePosixPath(name).with_suffix(".png")


def draw_thumbnail(picture: Path, target: Path) -> None:
    """A JPEG of the picture, at most `THUMBNAIL_PX` a side, on white where it is transparent; none of a huge one."""
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Image.DecompressionBombError), Image.open(picture) as image:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        sheet = Image.new("RGB", image.size, "#ffffff")
        sheet.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
        sheet.save(target, quality=85)


def without_formula(outcome: Outcome) -> Outcome:
    """The outcome with a name that no spreadsheet takes for a formula."""
    name = str(outcome.task.source)
    if not name.startswith(FORMULA):
        return outcome
    return replace(outcome, task=replace(outcome.task, source=Path(f"'{name}")))

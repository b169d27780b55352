"""Many pictures: reading, restoring and writing at the same time; one bad file never stops the others.

Threads read and decode ahead, the model runs in the caller's thread, threads encode and save. What is under way is
bounded, so that a folder of any length takes the memory of a few pictures.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from gendrpix.errors import PictureError, sentence
from gendrpix.files import make_folder, quoted
from gendrpix.image.picture import DEFAULT_LIMITS, Limits, Picture
from gendrpix.image.read import decode_bytes, from_decoded, read_file, upright_size
from gendrpix.image.resize import check_output_size, output_size, resize_alpha
from gendrpix.image.write import save_png
from gendrpix.jobs.tasks import Outcome, Task, Times
from gendrpix.settings.recipe import KEYWORD, png_entries, read_entry
from gendrpix.settings.restoration import RestoreSettings

T = TypeVar("T")

RestoreCall = Callable[[Sequence[Picture]], Sequence[Tensor]]
"""Pictures of one size => their results, (1, 3, H, W) in [-1, 1] each."""
RecipeCall = Callable[[str], Mapping[str, Any]]
"""SHA-256 of a picture's file => the recipe of its result, JSON values."""


class Streamed(NamedTuple):
    """What is known of a result that went straight into its file."""

    size: tuple[int, int]
    """(width, height)."""
    notes: tuple[str, ...]


StreamCall = Callable[[Picture, Path, Mapping[str, str]], Streamed]
"""(picture, path, the PNG's text entries) => the result, saved there."""


class Calls(NamedTuple):
    """A loaded restorer."""

    whole: RestoreCall
    banded: StreamCall | None = None
    """Where it is None, no result is written band by band."""


HELD_BATCHES = 4
"""How many batches' worth of decoded pictures may wait for others of their size."""
WHOLE_PIXELS = 4096 * 4096
"""Results of more pixels are written band by band, where nothing in the settings is against it."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A picture that was read, with the text entries of its result."""

    task: Task
    size: tuple[int, int]
    """(width, height) of what is restored."""
    picture: Picture | None
    """None where the result is written band by band: such a picture does not wait decoded."""
    entries: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What holds for all pictures of a job."""

    settings: RestoreSettings
    recipe: RecipeCall
    overwrite: bool = False
    limits: Limits = DEFAULT_LIMITS
    whole_pixels: int = WHOLE_PIXELS

    def goes_in_bands(self, size: tuple[int, int]) -> bool:
        """Whether the result of a picture of (width, height) is written band by band."""
        if self.settings.stream:
            return True
        height, width = output_size(size[1], size[0], self.settings.scale_for(*size))
        return self.settings.streams and height * width > self.whole_pixels


def restore_files(
    tasks: Sequence[Task],
    load: Callable[[], Calls],
    settings: RestoreSettings,
    recipe: RecipeCall,
    finish: Callable[[Outcome], None],
    *,
    batch: int = 1,
    workers: int = 1,
    overwrite: bool = False,
    overlap: bool = True,
    limits: Limits = DEFAULT_LIMITS,
    whole_pixels: int = WHOLE_PIXELS,
) -> Times:
    """Restore every task's picture and save its result; `finish` hears of each, one at a time, from any thread.

    load: gives the model's calls, asked for once, when the first picture is there. settings: whose crop and bits are
    taken here. recipe: of each result, which carries it; an existing result of the same recipe is skipped, one that
    another process makes meanwhile too.
    batch: most pictures of one size in one call. workers: threads that read, and as many that write.
    overlap: False does one thing after the other, to compare. limits: what each picture may be. whole_pixels: results
    of more, and all where the settings say so, are written band by band.
    Raises what `load` raises; whatever else goes wrong is the outcome of one file.
    """
    if batch < 1 or workers < 1:
        raise ValueError(f"batch is {batch} and workers {workers}; expected at least 1 of each.")
    job = Job(settings=settings, recipe=recipe, overwrite=overwrite, limits=limits, whole_pixels=whole_pixels)
    turn = threading.Lock()

    def tell(outcome: Outcome) -> None:
        with turn:
            finish(outcome)

    def read(task: Task) -> Loaded | Outcome:
        return guarded(task, lambda: read_task(task, job))

    def write(loaded: Loaded, result: Tensor, seconds: float) -> None:
        tell(guarded(loaded.task, lambda: unless_done(loaded, lambda: write_result(loaded, result, seconds, job))))

    start, load_s, model_s = time.perf_counter(), 0.0, 0.0
    calls: Calls | None = None
    with ThreadPoolExecutor(workers, "read") as readers, ThreadPoolExecutor(workers, "write") as writers:
        ready = prefetch(readers, read, tasks, workers + batch) if overlap else map(read, tasks)
        saving: deque[Future[None]] = deque()
        for group in batch_by_size(loaded_only(ready, tell), batch):
            left = still_to_do(group, tell)
            if not left:
                continue
            if calls is None:
                began = time.perf_counter()
                calls = load()
                load_s = time.perf_counter() - began
            began = time.perf_counter()
            if left[0].picture is None:
                tell(stream_result(left[0], calls.banded, job))
                model_s += time.perf_counter() - began
                continue
            results = restore_group(left, calls.whole)
            model_s += time.perf_counter() - began
            for loaded, made, seconds in results:
                if isinstance(made, Outcome):
                    tell(made)
                elif not overlap:
                    write(loaded, made, seconds)
                else:
                    while len(saving) > workers:
                        saving.popleft().result()
                    saving.append(writers.submit(write, loaded, made, seconds))
            del results
        for future in saving:
            future.result()
    return Times(wall_s=time.perf_counter() - start - load_s, model_s=model_s)


def guarded(task: Task, action: Callable[[], T]) -> T | Outcome:
    """The action's result, or the outcome "failed"."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - one bad picture must not end the others
        return Outcome(task=task, status="failed", reason=sentence(error))


def prefetch(pool: ThreadPoolExecutor, do: Callable[[Task], T], tasks: Iterable[Task], depth: int) -> Iterator[T]:
    """The results in order, at most `depth` of them under way or waiting."""
    waiting: deque[Future[T]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(do, task))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def loaded_only(ready: Iterable[Loaded | Outcome], tell: Callable[[Outcome], None]) -> Iterator[Loaded]:
    """The pictures that were read; what else became of a task is told at once."""
    for one in ready:
        if isinstance(one, Loaded):
            yield one
        else:
            tell(one)


def batch_by_size(pictures: Iterable[Loaded], batch: int) -> Iterator[list[Loaded]]:
    """Groups of up to `batch` pictures of one size; the fullest goes first when too many wait."""
    waiting: dict[tuple[int, int], list[Loaded]] = {}
    for one in pictures:
        if one.picture is None:
            yield [one]
            continue
        group = waiting.setdefault(one.size, [])
        group.append(one)
        if len(group) == batch:
            yield waiting.pop(one.size)
        elif sum(map(len, waiting.values())) >= HELD_BATCHES * batch:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def read_task(task: Task, job: Job) -> Loaded | Outcome:
    """The picture, or the outcome "skipped" where its result is there already. Raises ValueError."""
    settings, limits, name = job.settings, job.limits, quoted(task.source)
    if task.target.exists() and task.target.resolve() == task.source.resolve():
        raise ValueError("the result would replace the picture itself; choose another folder with -o.")
    data = read_file(task.source, limits)
    entries = png_entries(job.recipe(hashlib.sha256(data).hexdigest()))
    if task.target.exists():
        if is_done(task, entries):
            return Outcome(task=task, status="skipped")
        if not job.overwrite:
            raise ValueError(
                f"{task.target} exists already and was made otherwise; "
                "choose another folder or allow overwriting (--overwrite)."
            )
    size = upright_size(io.BytesIO(data), name, limits) if settings.crop is None else settings.crop[2:]
    check_output_size(*output_size(size[1], size[0], settings.scale_for(*size)), limits)
    if job.goes_in_bands(size):
        return Loaded(task=task, size=size, picture=None, entries=entries)
    picture = from_decoded(decode_bytes(data, name, limits, settings.crop))
    return Loaded(task=task, size=(picture.width, picture.height), picture=picture, entries=entries)


def is_done(task: Task, entries: Mapping[str, str]) -> bool:
    """Whether the result is there, made by this recipe."""
    return read_entry(task.target) == entries[KEYWORD]


def still_to_do(group: Sequence[Loaded], tell: Callable[[Outcome], None]) -> list[Loaded]:
    """Those whose results no other process has made since they were read; the others are told."""
    left = []
    for one in group:
        if one.task.target.exists() and is_done(one.task, one.entries):
            tell(Outcome(task=one.task, status="skipped"))
        else:
            left.append(one)
    return left


def unless_done(loaded: Loaded, save: Callable[[], Outcome]) -> Outcome:
    """What `save` gives, or the outcome "skipped" where another process has saved the same result meanwhile."""
    try:
        return save()
    except PictureError:
        if is_done(loaded.task, loaded.entries):
            return Outcome(task=loaded.task, status="skipped")
        raise


def restore_group(group: Sequence[Loaded], restore: RestoreCall) -> list[tuple[Loaded, Tensor | Outcome, float]]:
    """Each picture with its result on the CPU, or the outcome "failed", and its seconds.

    A batch that fails is tried again one by one: one picture's fault, or too little memory, is not the others'.
    """
    start = time.perf_counter()
    pictures = [one.picture for one in group if one.picture is not None]
    made = guarded(group[0].task, lambda: [result.cpu() for result in restore(pictures)])
    seconds = (time.perf_counter() - start) / len(group)
    if isinstance(made, list):
        return [(one, result, seconds) for one, result in zip(group, made, strict=True)]
    if len(group) == 1:
        return [(group[0], made, seconds)]
    return [alone for one in group for alone in restore_group([one], restore)]


def write_result(loaded: Loaded, result: Tensor, seconds: float, job: Job) -> Outcome:
    """Save one result, (1, 3, H, W) in [-1, 1], with its picture's alpha. Raises PictureError."""
    picture, target = loaded.picture, loaded.task.target
    assert picture is not None
    height, width = result.shape[-2:]
    alpha = None if picture.alpha is None else resize_alpha(picture.alpha, height, width)
    make_folder(target.parent)
    written = Picture(color=result, alpha=alpha, grey=picture.grey)
    save_png(written, target, overwrite=job.overwrite, metadata=loaded.entries, bits=job.settings.bits)
    return restored(loaded, picture, (width, height), seconds)


def stream_result(loaded: Loaded, stream: StreamCall | None, job: Job) -> Outcome:
    """Decode one picture and restore it into its file; whatever goes wrong is its outcome."""
    assert stream is not None, "a result is to be written band by band, and the call for that is missing"
    task = loaded.task

    def save() -> Outcome:
        data = read_file(task.source, job.limits)
        picture = from_decoded(decode_bytes(data, quoted(task.source), job.limits, job.settings.crop))
        del data
        make_folder(task.target.parent)
        start = time.perf_counter()
        made = stream(picture, task.target, loaded.entries)
        return restored(loaded, picture, made.size, time.perf_counter() - start, made.notes)

    return guarded(task, lambda: unless_done(loaded, save))


def restored(
    loaded: Loaded, picture: Picture, size: tuple[int, int], seconds: float, notes: tuple[str, ...] = ()
) -> Outcome:
    """The outcome of a picture whose result, (width, height), is saved."""
    return Outcome(
        task=loaded.task,
        status="restored",
        seconds=seconds,
        size=loaded.size,
        result_size=size,
        notes=(*picture.notes, *notes),
    )

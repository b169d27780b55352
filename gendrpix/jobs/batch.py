"""Many pictures: reading, restoring and writing at the same time; one bad file never stops the others.

Threads read and decode ahead, the model runs in the caller's thread, threads encode and save. What is under way is
bounded, so that a folder of any length takes the memory of a few pictures.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from gendrpix.errors import sentence
from gendrpix.files import make_folder, quoted
from gendrpix.image.picture import DEFAULT_LIMITS, Limits, Picture, cut
from gendrpix.image.read import decode_bytes, from_decoded, read_file
from gendrpix.image.resize import resize_alpha
from gendrpix.image.write import save_png
from gendrpix.jobs.tasks import Outcome, Task, Times
from gendrpix.settings.recipe import KEYWORD, png_entries, read_entry

T = TypeVar("T")

RestoreCall = Callable[[Sequence[Picture]], Sequence[Tensor]]
"""Pictures of one size => their results, (1, 3, H, W) in [-1, 1] each."""


class Streamed(NamedTuple):
    """What is known of a result that went straight into its file."""

    size: tuple[int, int]
    """(width, height)."""
    notes: tuple[str, ...]


StreamCall = Callable[[Picture, Path, Mapping[str, str]], Streamed]
"""(picture, path, the PNG's text entries) => the result, saved there."""

HELD_BATCHES = 4
"""How many batches' worth of decoded pictures may wait for others of their size."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A picture that was read, with the text entries of its result."""

    task: Task
    picture: Picture
    entries: Mapping[str, str]


def restore_files(
    tasks: Sequence[Task],
    load: Callable[[], RestoreCall],
    recipe: Mapping[str, Any],
    finish: Callable[[Outcome], None],
    *,
    batch: int = 1,
    workers: int = 1,
    bits: int = 8,
    overwrite: bool = False,
    overlap: bool = True,
    crop: tuple[int, int, int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Times:
    """Restore every task's picture and save its result; `finish` hears of each, one at a time, from any thread.

    load: gives the model's call, asked for once, when the first picture is there. recipe: what all results have in
    common (JSON values); each result carries it with its input's SHA-256, and an existing result of the same recipe
    is skipped. batch: most pictures of one size in one call. workers: threads that read, and as many that write.
    bits: of the PNGs' channels, 8 or 16. overlap: False does one thing after the other, to compare. crop: the part of
    each picture to restore (`image.picture.cut`). limits: what each picture may be.
    Raises what `load` raises; whatever else goes wrong is the outcome of one file.
    """
    if batch < 1 or workers < 1:
        raise ValueError(f"batch is {batch} and workers {workers}; expected at least 1 of each.")
    turn = threading.Lock()

    def tell(outcome: Outcome) -> None:
        with turn:
            finish(outcome)

    def read(task: Task) -> Loaded | Outcome:
        return guarded(task, lambda: read_task(task, recipe, crop=crop, overwrite=overwrite, limits=limits))

    def write(loaded: Loaded, result: Tensor, seconds: float) -> None:
        tell(guarded(loaded.task, lambda: write_result(loaded, result, seconds, bits=bits, overwrite=overwrite)))

    start, load_s, model_s = time.perf_counter(), 0.0, 0.0
    restore: RestoreCall | None = None
    with ThreadPoolExecutor(workers, "read") as readers, ThreadPoolExecutor(workers, "write") as writers:
        ready = prefetch(readers, read, tasks, workers + batch) if overlap else map(read, tasks)
        saving: deque[Future[None]] = deque()
        for group in batch_by_size(loaded_only(ready, tell), batch):
            if restore is None:
                began = time.perf_counter()
                restore = load()
                load_s = time.perf_counter() - began
            began = time.perf_counter()
            results = restore_group(group, restore)
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
        size = (one.picture.width, one.picture.height)
        group = waiting.setdefault(size, [])
        group.append(one)
        if len(group) == batch:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) >= HELD_BATCHES * batch:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def read_task(
    task: Task,
    recipe: Mapping[str, Any],
    *,
    overwrite: bool,
    crop: tuple[int, int, int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Loaded | Outcome:
    """The decoded picture, or the outcome "skipped" where its result is there already. Raises ValueError."""
    if task.target.exists() and task.target.resolve() == task.source.resolve():
        raise ValueError("the result would replace the picture itself; choose another folder with -o.")
    data = read_file(task.source, limits)
    entries = png_entries({**recipe, "input_sha256": hashlib.sha256(data).hexdigest()})
    if task.target.exists():
        if read_entry(task.target) == entries[KEYWORD]:
            return Outcome(task=task, status="skipped")
        if not overwrite:
            raise ValueError(
                f"{task.target} exists already and was made otherwise; "
                "choose another folder or allow overwriting (--overwrite)."
            )
    picture = from_decoded(decode_bytes(data, quoted(task.source), limits))
    return Loaded(task=task, picture=picture if crop is None else cut(picture, crop), entries=entries)


def restore_group(group: Sequence[Loaded], restore: RestoreCall) -> list[tuple[Loaded, Tensor | Outcome, float]]:
    """Each picture with its result on the CPU, or the outcome "failed", and its seconds.

    A batch that fails is tried again one by one: one picture's fault, or too little memory, is not the others'.
    """
    start = time.perf_counter()
    pictures = [one.picture for one in group]
    made = guarded(group[0].task, lambda: [result.cpu() for result in restore(pictures)])
    seconds = (time.perf_counter() - start) / len(group)
    if isinstance(made, list):
        return [(one, result, seconds) for one, result in zip(group, made, strict=True)]
    if len(group) == 1:
        return [(group[0], made, seconds)]
    return [alone for one in group for alone in restore_group([one], restore)]


def write_result(loaded: Loaded, result: Tensor, seconds: float, *, bits: int, overwrite: bool) -> Outcome:
    """Save one result, (1, 3, H, W) in [-1, 1], with its picture's alpha. Raises PictureError."""
    picture, target = loaded.picture, loaded.task.target
    height, width = result.shape[-2:]
    alpha = None if picture.alpha is None else resize_alpha(picture.alpha, height, width)
    make_folder(target.parent)
    written = Picture(color=result, alpha=alpha, grey=picture.grey)
    save_png(written, target, overwrite=overwrite, metadata=loaded.entries, bits=bits)
    return Outcome(
        task=loaded.task,
        status="restored",
        seconds=seconds,
        size=(picture.width, picture.height),
        result_size=(width, height),
        notes=picture.notes,
    )


# Results too large for memory --------------------------------------------------------------------------------------


def stream_files(
    tasks: Sequence[Task],
    load: Callable[[], StreamCall],
    recipe: Mapping[str, Any],
    finish: Callable[[Outcome], None],
    *,
    overwrite: bool = False,
    crop: tuple[int, int, int, int] | None = None,
) -> Times:
    """As `restore_files`, one picture after the other, each result written while it is made."""
    start, load_s = time.perf_counter(), 0.0
    stream: StreamCall | None = None
    for task in tasks:
        loaded = guarded(task, partial(read_task, task, recipe, overwrite=overwrite, crop=crop))
        if isinstance(loaded, Outcome):
            finish(loaded)
            continue
        if stream is None:
            began = time.perf_counter()
            stream = load()
            load_s = time.perf_counter() - began
        finish(guarded(task, partial(stream_result, loaded, stream)))
    return Times(wall_s=time.perf_counter() - start - load_s, model_s=0.0)


def stream_result(loaded: Loaded, stream: StreamCall) -> Outcome:
    """Restore one picture into its file. Raises what `stream` raises."""
    picture, task = loaded.picture, loaded.task
    make_folder(task.target.parent)
    start = time.perf_counter()
    made = stream(picture, task.target, loaded.entries)
    return Outcome(
        task=task,
        status="restored",
        seconds=time.perf_counter() - start,
        size=(picture.width, picture.height),
        result_size=made.size,
        notes=(*picture.notes, *made.notes),
    )

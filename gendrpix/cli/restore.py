"""The command `restore`: many pictures with one restorer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gendrpix.cli.console import quiet_libraries, say, say_notes
from gendrpix.settings.options import Restore
from gendrpix.settings.recipe import weights_name, write_recipe

if TYPE_CHECKING:
    import torch

    from gendrpix.jobs.batch import RecipeCall, RestoreCall, StreamCall
    from gendrpix.jobs.processes import ProcessGroup
    from gendrpix.jobs.tasks import Outcome, Task, Times
    from gendrpix.restore.pipelines import RestorerPipeline


def restore(options: Restore) -> int:
    """Restore each picture; say what is wrong with one and go on with the rest."""
    if not options.inputs:
        raise ValueError("There is nothing to restore; name picture files or folders of them.")
    with quiet_libraries():
        from gendrpix.devices import pick_device
        from gendrpix.jobs.processes import join_process_group
        from gendrpix.jobs.tasks import check_report, plan_tasks, remove_stale_parts_of
        from gendrpix.restore.restorer import dtype_name, pick_dtype_for
        from gendrpix.weights.load import find_restorer_folder, own_offsets
        from gendrpix.weights.verify import digest_weights

        tasks = plan_tasks(options.inputs, options.output)
        if options.report is not None:
            check_report(options.report, options.overwrite)
        folder = find_restorer_folder(options.settings.restorer, options.weights)
        group = join_process_group(pick_device(options.device))
        dtype = dtype_name(pick_dtype_for(options.settings, group.device))
        settings = options.settings.resolved(**own_offsets(folder), dtype=dtype)
        digest = digest_weights(folder)

        def recipe(input_sha256: str) -> dict[str, object]:
            name = weights_name(options.weights)
            return write_recipe(settings, weights=name, weights_sha256=digest, input_sha256=input_sha256)

        try:
            own = group.share(tasks)
            if group.index == 0:
                remove_stale_parts_of(tasks)
            return run_tasks(replace(options, settings=settings), group, tasks, own, recipe)
        finally:
            group.leave()


# Parts of restore --------------------------------------------------------------------------------------------------


def run_tasks(
    options: Restore, group: ProcessGroup, tasks: Sequence[Task], own: Sequence[Task], recipe: RecipeCall
) -> int:
    """Do this process's tasks, then put all processes' reports together; the exit code of the whole job."""
    from gendrpix.jobs.tasks import write_report

    done: list[Outcome] = []
    times: list[Times] = []

    def report() -> None:
        order = {task.source: number for number, task in enumerate(tasks)}
        if options.report is not None and group.index == 0:
            write_report(sorted(done, key=lambda one: order[one.task.source]), options.report)

    with progress(len(own), shown=group.index == 0) as advance:

        def finish(outcome: Outcome) -> None:
            done.append(outcome)
            advance(outcome)

        try:
            times.append(do_tasks(options, group.device, own, recipe, finish))
        except BaseException:
            report()  # of what this process has done: the others cannot be asked any more
            raise
    done = group.gather(done)
    times = group.gather(times)
    report()
    if group.index == 0 and len(tasks) > 1:
        say(summary(done, times))
    return 1 if any(outcome.status == "failed" for outcome in done) else 0


def do_tasks(
    options: Restore,
    device: torch.device,
    tasks: Sequence[Task],
    recipe: RecipeCall,
    finish: Callable[[Outcome], None],
) -> Times:
    """Restore this process's pictures, into memory or straight into their files."""
    from gendrpix.jobs.batch import restore_files, stream_files
    from gendrpix.jobs.calls import restore_call, stream_call

    settings = options.settings

    def load_call() -> RestoreCall:
        return restore_call(load_pipeline(options, device), settings, say)

    def load_stream() -> StreamCall:
        return stream_call(load_pipeline(options, device), settings, overwrite=options.overwrite)

    if settings.stream:
        return stream_files(tasks, load_stream, settings, recipe, finish, overwrite=options.overwrite)
    workers = options.workers or (1 if device.type == "cpu" else 4)
    batch, overwrite = options.batch, options.overwrite
    return restore_files(tasks, load_call, settings, recipe, finish, batch=batch, workers=workers, overwrite=overwrite)


def load_pipeline(options: Restore, device: torch.device) -> RestorerPipeline:
    """The restorer that the options name, ready."""
    from gendrpix.restore.pipelines import load_restorer
    from gendrpix.restore.restorer import pick_dtype_for

    settings = options.settings
    dtype = pick_dtype_for(settings, device)
    return load_restorer(settings.restorer, options.weights, device=device, dtype=dtype, speedups=settings.speedups)


@contextlib.contextmanager
def progress(total: int, *, shown: bool) -> Iterator[Callable[[Outcome], None]]:
    """A bar with the time left where standard error is a terminal; gives the function that takes an outcome."""
    from tqdm import tqdm

    with tqdm(total=total, unit="picture", disable=None if shown else True, file=sys.stderr) as bar:

        def advance(outcome: Outcome) -> None:
            task = outcome.task
            with tqdm.external_write_mode(file=sys.stderr):
                say_notes(task.source, outcome.notes)
                if outcome.status == "failed":
                    say(f"{task.source}: {outcome.reason}")
                elif outcome.status == "skipped":
                    print(f"{task.target}  there already, kept", flush=True)
                else:
                    width, height = outcome.result_size or (0, 0)
                    print(f"{task.target}  {width} x {height}  {outcome.seconds:.2f} s", flush=True)
            bar.update()

        yield advance


def summary(done: Sequence[Outcome], times: Sequence[Times]) -> str:
    """One line about a job: "3 restored, 1 kept, 1 failed in 8.2 s; the model computed 93% of the time."."""
    words = {"restored": "restored", "skipped": "kept", "failed": "failed"}
    counts = {word: sum(outcome.status == status for outcome in done) for status, word in words.items()}
    wall_s = max(one.wall_s for one in times)
    text = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "restored")
    text += f" in {wall_s:.1f} s"
    if model_s := sum(one.model_s for one in times):
        text += f"; the model computed {model_s / wall_s / len(times):.0%} of the time"
    return text + "."

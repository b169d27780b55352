"""The command `restore`: many pictures with one restorer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gendrpix.cli.console import quiet_libraries, say
from gendrpix.cli.progress import progress
from gendrpix.settings.options import Restore
from gendrpix.settings.recipe import weights_name, write_recipe

if TYPE_CHECKING:
    import torch

    from gendrpix.image.picture import Limits
    from gendrpix.jobs.batch import RecipeCall
    from gendrpix.jobs.planning import LeftOut
    from gendrpix.jobs.processes import ProcessGroup
    from gendrpix.jobs.tasks import Outcome, Task, Times
    from gendrpix.restore.pipelines import RestorerPipeline


def restore(options: Restore) -> int:
    """Restore each picture; say what is wrong with one and go on with the rest."""
    if not options.inputs and options.files_from is None:
        raise ValueError("There is nothing to restore; name picture files or folders of them.")
    with quiet_libraries():
        from gendrpix.devices import pick_device
        from gendrpix.files import try_folder
        from gendrpix.jobs.disk import find_room
        from gendrpix.jobs.planning import Place, plan_tasks
        from gendrpix.jobs.processes import join_process_group
        from gendrpix.jobs.reports import check_report
        from gendrpix.jobs.tasks import remove_stale_parts_of
        from gendrpix.restore.memory import machine_limits
        from gendrpix.restore.restorer import dtype_name, pick_dtype_for
        from gendrpix.weights.load import find_restorer_folder, own_offsets
        from gendrpix.weights.verify import digest_weights

        planned = plan_tasks(options.inputs, Place(folder=options.output), listed_in(options.files_from))
        tasks = planned.shard(*options.part)
        if options.report is not None:
            check_report(options.report, options.overwrite)
        folder = find_restorer_folder(options.settings.restorer, options.weights)
        group = join_process_group(pick_device(options.device))
        dtype = dtype_name(pick_dtype_for(options.settings, group.device))
        settings = options.settings.resolved(**own_offsets(folder), dtype=dtype)
        digest = digest_weights(folder)
        limits = machine_limits()

        def recipe(input_sha256: str) -> dict[str, object]:
            name = weights_name(options.weights)
            return write_recipe(settings, weights=name, weights_sha256=digest, input_sha256=input_sha256)

        try:
            own = group.share(tasks)
            if group.index == 0:
                try_folder(options.output)
                remove_stale_parts_of(tasks)
                for said in (planned.said(), find_room(tasks, settings, options.output, limits).check()):
                    if said:
                        say(said)
            left_out = planned.left_out if options.part[0] == 1 else []
            return run_tasks(replace(options, settings=settings), group, tasks, own, recipe, limits, left_out)
        finally:
            group.leave()


# Parts of restore --------------------------------------------------------------------------------------------------


def listed_in(files_from: str | None) -> list[Path]:
    """The names that --files-from gives. Raises ValueError where they cannot be read."""
    from gendrpix.jobs.planning import read_list

    if files_from is None:
        return []
    try:
        data = sys.stdin.buffer.read() if files_from == "-" else Path(files_from).read_bytes()
    except OSError as error:
        raise ValueError(f"--files-from: {files_from} cannot be read ({error.strerror}); check the path.") from error
    return read_list(data)


def run_tasks(
    options: Restore,
    group: ProcessGroup,
    tasks: Sequence[Task],
    own: Sequence[Task],
    recipe: RecipeCall,
    limits: Limits,
    left_out: Sequence[LeftOut],
) -> int:
    """Do this process's tasks, then put all processes' reports together; the exit code of the whole job."""
    from gendrpix.jobs.reports import Report

    report = None if options.report is None else Report(options.report, is_first=group.index == 0)
    group.gather([])  # no process adds to a report that is not begun
    done: list[Outcome] = []
    times: list[Times] = []

    def finish_report() -> None:
        order = {task.source: number for number, task in enumerate(tasks)}
        if report is not None and group.index == 0:
            report.finish(sorted(done, key=lambda one: order[one.task.source]), left_out)

    with progress(len(own), shown=group.index == 0) as advance:

        def finish(outcome: Outcome) -> None:
            done.append(outcome)
            if report is not None:
                report.add(outcome)
            advance(outcome)

        try:
            times.append(do_tasks(options, group.device, own, recipe, finish, limits))
        except BaseException:
            if group.count == 1:  # the others cannot be asked any more, and may still add to it
                finish_report()
            raise
    done = group.gather(done)
    times = group.gather(times)
    finish_report()
    if group.index == 0 and len(tasks) > 1:
        say(summary(done, times))
    unread = any(one.why == "cannot be read" for one in left_out)
    return 1 if unread or any(outcome.status == "failed" for outcome in done) else 0


def do_tasks(
    options: Restore,
    device: torch.device,
    tasks: Sequence[Task],
    recipe: RecipeCall,
    finish: Callable[[Outcome], None],
    limits: Limits,
) -> Times:
    """Restore this process's pictures, into memory or straight into their files."""
    from gendrpix.jobs.batch import restore_files
    from gendrpix.jobs.calls import calls_of

    settings, overwrite = options.settings, options.overwrite
    return restore_files(
        tasks,
        lambda: calls_of(load_pipeline(options, device), settings, say, overwrite=overwrite),
        settings,
        recipe,
        finish,
        batch=options.batch,
        workers=options.workers or (1 if device.type == "cpu" else 4),
        overwrite=overwrite,
        limits=limits,
    )


def load_pipeline(options: Restore, device: torch.device) -> RestorerPipeline:
    """The restorer that the options name, ready."""
    from gendrpix.restore.pipelines import load_restorer
    from gendrpix.restore.restorer import pick_dtype_for

    settings = options.settings
    dtype = pick_dtype_for(settings, device)
    return load_restorer(settings.restorer, options.weights, device=device, dtype=dtype, speedups=settings.speedups)


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

"""The command line: `python -m gendrpix restore | compare | bench | export | info`.

Libraries that take seconds to load are imported by the commands that need them, so that --help answers at once.
Results go to standard output, sentences about what went wrong to standard error. Exit codes: 0 all done, 1 some
pictures failed, 2 nothing could be started, 130 interrupted, 141 the output's reader has gone.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendrpix.errors import quiet_about_pipes, sentence
from gendrpix.options import Bench, Compare, Export, Info, Restore, parse
from gendrpix.restoring import check_common, check_restore, describe_recipe, dtype_of

if TYPE_CHECKING:
    import torch

    from gendrpix.batch import Restore as RestoreCall
    from gendrpix.batch import Stream as StreamCall
    from gendrpix.compare import Record
    from gendrpix.jobs import Crew, Outcome, Task, Times
    from gendrpix.pipelines import RestorerPipeline


@quiet_about_pipes
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code. SystemExit(2) where the arguments make no sense."""
    command = parse(argv)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it comes with pyiqa and tells what it cannot speed up
    try:
        if isinstance(command, Restore):
            return restore(command)
        if isinstance(command, Compare):
            return compare(command)
        if isinstance(command, Bench):
            return bench(command)
        if isinstance(command, Export):
            return export(command)
        return info(command)
    except KeyboardInterrupt:
        say("interrupted.")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line before a user
        say(sentence(error))
        return 2


# The commands ------------------------------------------------------------------------------------------------------


def restore(options: Restore) -> int:
    """Restore each picture; say what is wrong with one and go on with the rest."""
    check_restore(options)
    if not options.inputs:
        raise ValueError("There is nothing to restore; name picture files or folders of them.")
    with quiet_libraries():
        from gendrpix.devices import pick_device
        from gendrpix.jobs import check_report, join_crew, plan_tasks, sweep
        from gendrpix.recipe import digest_weights
        from gendrpix.weights import find_restorer_folder

        tasks = plan_tasks(options.inputs, options.output)
        if options.report is not None:
            check_report(options.report, options.overwrite)
        folder = find_restorer_folder(options.restorer, options.weights)
        crew = join_crew(pick_device(options.device))
        recipe = describe_recipe(options, options.restorer, options.guidance, dtype_of(options, crew.device))
        recipe["weights_sha256"] = digest_weights(folder)
        try:
            own = crew.share(tasks)
            if crew.index == 0:
                sweep(tasks)
            return run_crew(options, crew, tasks, own, recipe)
        finally:
            crew.leave()


def compare(options: Compare) -> int:
    """Restore one picture with every restorer, save each result as it ends, then the reports."""
    from gendrpix import compare as comparing
    from gendrpix.devices import pick_device
    from gendrpix.images import Picture, open_picture, save_png
    from gendrpix.outputs import enlarged_alpha
    from gendrpix.recipe import pick_scale, png_entries
    from gendrpix.regions import cut
    from gendrpix.report import to_table, write_csv, write_json
    from gendrpix.scores import Scorer

    check_common(options)
    picture = open_picture(options.input)
    if options.crop is not None:
        picture = cut(picture, options.crop)
    truth = None if options.truth is None else open_picture(options.truth)
    say_notes(options.input, picture.notes)
    settings = comparing.CompareSettings(
        scale=pick_scale(picture.width, picture.height, options.scale, options.size),
        guidance=options.guidance,
        pos_pad=options.pos_pad,
        neg_pad=options.neg_pad,
        plain_cfg=options.plain_cfg,
        color_fix=options.color_fix,
        warmup=options.warmup,
        repeats=options.repeats,
    )
    choices = comparing.order_choices(options.restorers, settings)
    files = {name: options.output / result_name(options.input, name) for name in (comparing.INPUT, *choices)}
    reports = {writer: options.output / f"report.{kind}" for writer, kind in ((write_csv, "csv"), (write_json, "json"))}
    check_free((*files.values(), *reports.values()), options.overwrite)
    with quiet_libraries():
        device = pick_device(options.device)
        dtype = dtype_of(options, device)
        cache = comparing.RestorerCache(options.weights, device=device, dtype=dtype, speedups=options.speedups)
        scorer = Scorer(device=device, lpips_net=options.lpips_net)
        records: list[Record] = []
        first = comparing.input_record(picture, settings, scorer, truth)
        comparing.load_all(cache, choices)
        for record in chain([first], comparing.compare(picture, choices, settings, cache, scorer, truth)):
            options.output.mkdir(parents=True, exist_ok=True)
            guidance = options.guidance if record.name == "gendr-pix" else None
            recipe = describe_recipe(options, record.name, guidance, dtype)
            entries = png_entries(recipe)
            result = Picture(color=record.pixels, alpha=enlarged_alpha(picture, record.pixels))
            save_png(result, files[record.name], overwrite=options.overwrite, metadata=entries, bits=options.bits)
            records.append(record)
    for write, path in reports.items():
        write(records, path)
    print(to_table(records).to_text())
    return 0


def bench(options: Bench) -> int:
    """Time every case, then write the reports and print the table."""
    from gendrpix import bench as benching
    from gendrpix import bench_report
    from gendrpix.devices import pick_device

    plan = benching.plan_bench(options)
    files = bench_report.files_in(options.output)
    check_free(files, options.overwrite)
    with quiet_libraries():
        result = benching.run_bench(plan, pick_device(options.device), say)
    bench_report.write_reports(result, options.output)
    print(bench_report.to_text(result))
    return 0


def export(options: Export) -> int:
    """Write a restorer as files for another runtime and print their paths."""
    from gendrpix.engines import export as exporting

    with quiet_libraries():
        paths = exporting.export(options)
    for path in paths:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def info(options: Info) -> int:
    """Print what the models cost."""
    from gendrpix.cost import format_info

    print(format_info(options.size))
    return 0


# Parts of restore --------------------------------------------------------------------------------------------------


def run_crew(options: Restore, crew: Crew, tasks: Sequence[Task], own: Sequence[Task], recipe: dict[str, Any]) -> int:
    """Do this process's tasks, then put all processes' reports together; the exit code of the whole job."""
    from gendrpix.jobs import write_report

    done: list[Outcome] = []
    times: list[Times] = []

    def report() -> None:
        order = {task.source: number for number, task in enumerate(tasks)}
        if options.report is not None and crew.index == 0:
            write_report(sorted(done, key=lambda one: order[one.task.source]), options.report)

    with progress(len(own), shown=crew.index == 0) as advance:

        def finish(outcome: Outcome) -> None:
            done.append(outcome)
            advance(outcome)

        try:
            times.append(do_tasks(options, crew.device, own, recipe, finish))
        except BaseException:
            report()  # of what this process has done: the others cannot be asked any more
            raise
    done = crew.gather(done)
    times = crew.gather(times)
    report()
    if crew.index == 0 and len(tasks) > 1:
        say(summary(done, times))
    return 1 if any(outcome.status == "failed" for outcome in done) else 0


def do_tasks(
    options: Restore,
    device: torch.device,
    tasks: Sequence[Task],
    recipe: dict[str, Any],
    finish: Callable[[Outcome], None],
) -> Times:
    """Restore this process's pictures, into memory or straight into their files."""
    from gendrpix.batch import restore_files, stream_files
    from gendrpix.restoring import restore_call, stream_call

    def load_call() -> RestoreCall:
        return restore_call(load_pipeline(options, device), options, say)

    def load_stream() -> StreamCall:
        return stream_call(load_pipeline(options, device), options)

    how: dict[str, Any] = {"overwrite": options.overwrite, "crop": options.crop}
    if options.stream:
        return stream_files(tasks, load_stream, recipe, finish, **how)
    workers = options.workers or (1 if device.type == "cpu" else 4)
    return restore_files(
        tasks, load_call, recipe, finish, batch=options.batch, workers=workers, bits=options.bits, **how
    )


def load_pipeline(options: Restore, device: torch.device) -> RestorerPipeline:
    """The restorer that the options name, ready."""
    from gendrpix.pipelines import load_restorer

    dtype = dtype_of(options, device)
    return load_restorer(options.restorer, options.weights, device=device, dtype=dtype, speedups=options.speedups)


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


# Parts of both -----------------------------------------------------------------------------------------------------


def result_name(source: Path, choice: str) -> str:
    """The file name of one result of a comparison: "cat_gendr-pix-star.png"."""
    return f"{source.stem}_{choice.replace('*', '-star')}.png"


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise ValueError where a result exists already, unless it may be replaced."""
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise ValueError(f"{taken[0]} exists already; choose another folder or allow overwriting (--overwrite).")


# What is said ------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line on standard error."""
    print(f"gendrpix: {text}", file=sys.stderr, flush=True)


def say_notes(source: Path, notes: Iterable[str]) -> None:
    """How the picture was read, where a user should know."""
    for note in notes:
        say(f"{source}: {note}")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own warnings and progress bars off the terminal."""
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    sys.exit(main())

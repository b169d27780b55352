"""The command line: `python -m gendrpix restore | compare | info`.

Libraries that take seconds to load are imported by the commands that need them, so that --help answers at once.
Results go to standard output, sentences about what went wrong to standard error. Exit codes: 0 all done, 1 some
pictures failed, 2 nothing could be started, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import tyro

from gendrpix import __version__
from gendrpix.specs import COMPARED_OMEGA, DEFAULT_GUIDANCE, NEG_PAD, POS_PAD, Offset

if TYPE_CHECKING:
    from gendrpix.compare import Record
    from gendrpix.images import Picture
    from gendrpix.pipelines import RestorerPipeline

T = TypeVar("T")


def parse_omega(words: list[str]) -> float | None:
    """The word "none" as None, else a number."""
    return None if words[0].lower() == "none" else float(words[0])


Omega = Annotated[
    float | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="OMEGA|none",
        instance_from_str=parse_omega,
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    ),
]
Choice = Literal["gendr", "gendr-adc", "gendr-pix", "gendr-pix*"]
OutputPath = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What `restore` and `compare` share."""

    scale: float = 4.0
    """How many times larger, 1 to 8."""
    pos_pad: Offset = POS_PAD
    """PadCFG: rows and columns put before the picture in the positive branch, 0 to 7."""
    neg_pad: Offset = NEG_PAD
    """The same in the negative branch."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The numbers the networks compute with."""
    overwrite: bool = False
    """Replace files that exist already."""


@dataclass(frozen=True, kw_only=True)
class Restore(Common):
    """Restore and enlarge pictures. Each result is a PNG with the input's name."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, or folders of them."""
    output: OutputPath
    """Folder for the results."""
    restorer: Literal["gendr", "gendr-adc", "gendr-pix"] = "gendr-pix"
    """Which restorer."""
    guidance: Omega = DEFAULT_GUIDANCE
    """PadCFG's omega, gendr-pix only; none is one pass without guidance."""


@dataclass(frozen=True, kw_only=True)
class Compare(Common):
    """Restore one picture with every restorer; print and save time, memory and quality of each."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """A picture file."""
    output: OutputPath
    """Folder for the results, report.csv and report.json."""
    restorers: tuple[Choice, ...] = get_args(Choice)
    """Which restorers; gendr-pix* is gendr-pix without guidance."""
    guidance: Omega = COMPARED_OMEGA
    """PadCFG's omega for gendr-pix."""
    plain_cfg: bool = False
    """Guide without offsets."""
    truth: Path | None = None
    """The picture as it should be, of the result's size: adds PSNR, SSIM and LPIPS."""
    lpips_net: Literal["alex", "squeeze", "vgg"] = "alex"
    """LPIPS's trunk."""
    warmup: int = 1
    """Runs of each restorer that are not counted."""
    repeats: int = 1
    """Counted runs of each; the time is their median."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print parameters and multiply-adds of every model, counted without weights."""

    size: Annotated[int, tyro.conf.arg(metavar="PX")] = 512
    """Side of the square output, in pixels."""


Command = (
    Annotated[Restore, tyro.conf.subcommand("restore", prefix_name=False)]
    | Annotated[Compare, tyro.conf.subcommand("compare", prefix_name=False)]
    | Annotated[Info, tyro.conf.subcommand("info", prefix_name=False)]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code. SystemExit(2) where the arguments make no sense."""
    command: Restore | Compare | Info = tyro.cli(
        Command,
        args=argv,
        prog="gendrpix",
        description="One-step photo restoration: GenDR, GenDR-Adc and GenDR-Pix.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        if isinstance(command, Restore):
            return restore(command)
        if isinstance(command, Compare):
            return compare(command)
        return info(command)
    except KeyboardInterrupt:
        say("interrupted.")
        return 130
    except Exception as error:  # noqa: BLE001 - the last line before a user
        say(sentence(error))
        return 2


# The commands ------------------------------------------------------------------------------------------------------


def restore(options: Restore) -> int:
    """Restore each picture; say what is wrong with one and go on with the rest."""
    from gendrpix.images import find_pictures

    check(options)
    if options.guidance is not None and options.restorer != "gendr-pix":
        raise ValueError(f"--guidance is for gendr-pix only, not for {options.restorer}; leave it out.")
    if not options.inputs:
        raise ValueError("There is nothing to restore; name picture files or folders of them.")
    targets = plan_targets(find_pictures(options.inputs), options.output)
    pipeline: RestorerPipeline | None = None
    failed = 0
    for source, target in targets.items():
        picture = attempt(source, partial(open_source, source, target, overwrite=options.overwrite))
        if picture is not None:
            pipeline = pipeline or load_pipeline(options)
        if picture is None or not attempt(source, partial(restore_one, picture, target, options, pipeline)):
            failed += 1
    if failed and len(targets) > 1:
        say(f"{failed} of {len(targets)} pictures failed.")
    return 1 if failed else 0


def compare(options: Compare) -> int:
    """Restore one picture with every restorer, save each result as it ends, then the reports."""
    from gendrpix import compare as comparing
    from gendrpix.devices import pick_device, pick_dtype
    from gendrpix.images import open_picture, save_png
    from gendrpix.report import to_table, write_csv, write_json
    from gendrpix.scores import Scorer

    check(options)
    picture = open_picture(options.input)
    truth = None if options.truth is None else open_picture(options.truth)
    say_notes(options.input, picture)
    settings = comparing.CompareSettings(
        scale=options.scale,
        guidance=options.guidance,
        pos_pad=options.pos_pad,
        neg_pad=options.neg_pad,
        plain_cfg=options.plain_cfg,
        warmup=options.warmup,
        repeats=options.repeats,
    )
    choices = comparing.order_choices(options.restorers, settings)
    files = {name: options.output / result_name(options.input, name) for name in (comparing.INPUT, *choices)}
    reports = {writer: options.output / f"report.{kind}" for writer, kind in ((write_csv, "csv"), (write_json, "json"))}
    check_free((*files.values(), *reports.values()), options.overwrite)
    with quiet_libraries():
        device = pick_device(options.device)
        cache = comparing.RestorerCache(options.weights, device=device, dtype=pick_dtype(options.dtype))
        scorer = Scorer(device=device, lpips_net=options.lpips_net)
        records: list[Record] = []
        first = comparing.input_record(picture, settings, scorer, truth)
        comparing.load_all(cache, choices)
        for record in chain([first], comparing.compare(picture, choices, settings, cache, scorer, truth)):
            options.output.mkdir(parents=True, exist_ok=True)
            recipe = describe_recipe(options, record.name, options.guidance if record.name == "gendr-pix" else None)
            save_png(record.image, files[record.name], overwrite=options.overwrite, metadata=recipe)
            records.append(record)
    for write, path in reports.items():
        write(records, path)
    print(to_table(records).to_text())
    return 0


def info(options: Info) -> int:
    """Print what the models cost."""
    from gendrpix.cost import format_info

    print(format_info(options.size))
    return 0


# Their parts -------------------------------------------------------------------------------------------------------


def check(options: Common) -> None:
    """Raise ValueError for numbers out of range, before anything is read or loaded."""
    from gendrpix.guidance import check_offset

    if not 1.0 <= options.scale <= 8.0:
        raise ValueError(f"--scale is {options.scale}; expected 1 to 8.")
    check_offset(options.pos_pad)
    check_offset(options.neg_pad)


def plan_targets(sources: Sequence[Path], output: Path) -> dict[Path, Path]:
    """{input: PNG of the same name in `output`}. Raises ValueError where two inputs would share a name."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; give a folder with -o.")
    owners: dict[str, Path] = {}
    for source in sources:
        key = f"{source.stem}.png".casefold()  # some file systems do not tell a.png from A.png
        if key in owners:
            raise ValueError(
                f"{owners[key]} and {source} would both become {output / source.stem}.png; "
                "restore them one by one into different folders."
            )
        owners[key] = source
    return {source: output / f"{source.stem}.png" for source in sources}


def open_source(source: Path, target: Path, *, overwrite: bool) -> Picture:
    """The picture, if its result may be written. Raises ValueError."""
    from gendrpix.images import open_picture

    if target.exists() and target.resolve() == source.resolve():
        raise ValueError("the result would replace the picture itself; choose another folder with -o.")
    check_free([target], overwrite)
    picture = open_picture(source)
    say_notes(source, picture)
    return picture


def restore_one(picture: Picture, target: Path, options: Restore, pipeline: RestorerPipeline | None) -> bool:
    """Restore and save one picture, and print its line."""
    from PIL.Image import Image

    from gendrpix.images import save_png

    assert pipeline is not None
    start = time.perf_counter()
    image = pipeline(
        picture,
        scale=options.scale,
        guidance=options.guidance,
        pos_pad=options.pos_pad,
        neg_pad=options.neg_pad,
    ).images[0]
    seconds = time.perf_counter() - start
    assert isinstance(image, Image)
    target.parent.mkdir(parents=True, exist_ok=True)
    recipe = describe_recipe(options, options.restorer, options.guidance)
    save_png(image, target, overwrite=options.overwrite, metadata=recipe)
    print(f"{target}  {image.width} x {image.height}  {seconds:.2f} s", flush=True)
    return True


def load_pipeline(options: Restore) -> RestorerPipeline:
    """The restorer, on the device and in the dtype asked for."""
    from gendrpix.devices import pick_device, pick_dtype
    from gendrpix.pipelines import load_restorer

    with quiet_libraries():
        return load_restorer(
            options.restorer, options.weights, device=pick_device(options.device), dtype=pick_dtype(options.dtype)
        )


def result_name(source: Path, choice: str) -> str:
    """The file name of one result of a comparison: "cat_gendr-pix-star.png"."""
    return f"{source.stem}_{choice.replace('*', '-star')}.png"


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise ValueError where a result exists already, unless it may be replaced."""
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise ValueError(f"{taken[0]} exists already; choose another folder or allow overwriting (--overwrite).")


def describe_recipe(options: Common, restorer: str, guidance: float | None) -> dict[str, str]:
    """PNG text entries that say how a result was made; no paths of the machine."""
    folder = Path(options.weights)
    recipe: dict[str, Any] = {
        "restorer": restorer,
        "weights": folder.resolve().name if folder.is_dir() else options.weights,
        "scale": options.scale,
        "guidance": guidance,
        "dtype": options.dtype,
        "version": __version__,
    }
    if guidance is not None:
        plain = isinstance(options, Compare) and options.plain_cfg
        recipe.update({"plain_cfg": True} if plain else {"pos_pad": options.pos_pad, "neg_pad": options.neg_pad})
    return {"Software": f"gendrpix {__version__}", "gendrpix": json.dumps(recipe)}


# What is said ------------------------------------------------------------------------------------------------------


def attempt(source: Path, action: Callable[[], T]) -> T | None:
    """The action's result, or None after a sentence about why there is none."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - one bad picture must not end the others
        say(f"{source}: {sentence(error)}")
        return None


def sentence(error: Exception) -> str:
    """What a user reads in place of a traceback, on one line."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory for this; choose a smaller scale or a smaller picture."
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    said = " ".join(str(error).split()) or "no details"
    return f"Unexpected {type(error).__name__}: {said}"


def say(text: str) -> None:
    """One line on standard error."""
    print(f"gendrpix: {text}", file=sys.stderr, flush=True)


def say_notes(source: Path, picture: Picture) -> None:
    """How the picture was read, where a user should know."""
    for note in picture.notes:
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

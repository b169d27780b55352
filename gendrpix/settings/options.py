"""The command line's options, as dataclasses that tyro reads. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import (
    DEFAULT_OMEGA,
    DEFAULT_SPEEDUPS,
    Choice,
    Dtype,
    Offset,
    Speedup,
    TileChoice,
)

REGISTRY = tyro.constructors.ConstructorRegistry()
"""How words become values that may be none: the word "none" is None."""
Device = Literal["auto", "cuda", "mps", "cpu"]
OutputPath = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]


@REGISTRY.primitive_rule
def read_none(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Numbers and tiles that may be none."""
    if info.type == float | None:
        return _word(lambda word: None if word == "none" else float(word), "NUMBER|none")
    if info.type == TileChoice:
        return _word(lambda word: None if word == "none" else word if word == "auto" else int(word), "PX|auto|none")
    return None


def _word(read: Callable[[str], Any], metavar: str) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0].lower()),
        is_instance=lambda value: value is None or isinstance(value, int | float | str),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


@dataclass(frozen=True, kw_only=True)
class RestoreOptions(RestoreSettings):
    """The settings of `restore` as options: the same fields, under the names that they have there."""

    size_px: Annotated[int | None, tyro.conf.arg(name="size", metavar="PX")] = None
    """Longer side of the result in pixels, in place of --scale."""
    crop: Annotated[tuple[int, int, int, int] | None, tyro.conf.arg(metavar="LEFT TOP WIDTH HEIGHT")] = None
    """Restore this part of the picture alone, in pixels of the picture."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(RestoreOptions):
    """The settings of `compare`: those of `restore` for gendr-pix, where its two passes are asked for."""

    restorer: tyro.conf.Suppress[Literal["gendr-pix"]] = "gendr-pix"
    guidance: float | None = DEFAULT_OMEGA
    """PadCFG's omega for gendr-pix, 0 to 3. None turns it into gendr-pix*."""
    stream: tyro.conf.Suppress[bool] = False


def plain(settings: RestoreSettings) -> RestoreSettings:
    """Options as the settings that they are, equal to those from elsewhere."""
    return RestoreSettings(**{field.name: getattr(settings, field.name) for field in fields(RestoreSettings)})


@dataclass(frozen=True, kw_only=True)
class Restore:
    """Restore and enlarge pictures. Each result is a PNG with the input's name, at its place in the folder.

    A result that is there already and was made of the same input in the same way is kept: run the command again to
    go on where it was stopped. Under torchrun or accelerate launch the processes share the files.
    Pictures whose results would share a name get numbers. What a folder leaves out is counted and named.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, or folders of them, with the folders within."""
    files_from: Annotated[str | None, tyro.conf.arg(metavar="FILE|-")] = None
    """More of them from a file or from standard input: one a line, or ended by zero bytes (find -print0)."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """Restore part I of N alone, 3/16 for instance: each of N machines takes another part of the same list."""
    output: OutputPath
    """Folder for the results."""
    settings: Annotated[RestoreOptions, tyro.conf.arg(name="")]
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    batch: int = 1
    """Most pictures of one size that are restored at once; more than 1 is for GPUs."""
    workers: int | None = None
    """Threads that read pictures, and as many that write; 1 on the CPU and 4 elsewhere where none is given."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file, or JSON lines by the ending .jsonl, with a line for each picture: status, seconds, sizes, reason."""
    overwrite: bool = False
    """Replace files that exist already."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", plain(self.settings))

    def check(self) -> None:
        """Raise ValueError for numbers of the job that make no sense."""
        for name, number in (("--batch", self.batch), ("--workers", self.workers)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; expected at least 1.")
        _ = self.part
        if self.settings.stream and self.batch > 1:
            raise ValueError(f"--stream restores one picture at a time; leave out --batch {self.batch}.")

    @property
    def part(self) -> tuple[int, int]:
        """--shard as (number from 1 on, how many). Raises ValueError."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard or "1/1")
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--shard is {self.shard!r}; expected I/N with I from 1 to N, 3/16 for instance.")
        return int(found[1]), int(found[2])


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Restore one picture with every restorer; print and save time, memory and quality of each."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """A picture file."""
    output: OutputPath
    """Folder for the results, report.csv and report.json."""
    restorers: tuple[Choice, ...] = get_args(Choice)
    """Which restorers; gendr-pix* is gendr-pix without guidance."""
    baselines: Annotated[tuple[str, ...], tyro.conf.arg(name="with", metavar="NAME|FILE")] = ()
    """Networks of others beside them: names in GENDRPIX_BASELINES, or .safetensors, .pth, .param, .onnx files."""
    settings: Annotated[CompareOptions, tyro.conf.arg(name="")]
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    truth: Path | None = None
    """The picture as it should be, of the result's size: adds PSNR, SSIM and LPIPS."""
    lpips_net: Literal["alex", "squeeze", "vgg"] = "squeeze"
    """LPIPS's trunk; squeeze comes with the package, the others are downloaded."""
    warmup: int = 1
    """Runs of each restorer that are not counted."""
    repeats: int = 1
    """Counted runs of each; the time is their median."""
    overwrite: bool = False
    """Replace files that exist already."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", plain(self.settings))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time the restorers at several sizes: seconds, memory, multiply-adds, as JSON, Markdown and a plot."""

    output: OutputPath
    """Folder for bench.json, bench.md and bench.png."""
    restorers: tuple[Choice, ...] = get_args(Choice)
    """Which restorers; gendr-pix is PadCFG's two passes, gendr-pix* one without guidance."""
    sizes: tuple[str, ...] = ("512", "1024")
    """Output sizes in pixels, multiples of 8: 512 for a square, 3840x2160 for width and height."""
    attention: tuple[Literal["full", "window", "pooled", "auto"], ...] = ("auto",)
    """Kinds of self-attention."""
    dtypes: tuple[Dtype, ...] = ("float32",)
    """Numbers that the networks compute with."""
    padcfg: tuple[Literal["batched", "sequential"], ...] = ("batched",)
    """How gendr-pix runs its two branches."""
    peers: tuple[Literal["rrdbnet", "compact", "sd21-vae4"], ...] = ("rrdbnet", "compact")
    """Networks of others with random weights, for comparison; rrdbnet and compact need the package spandrel."""
    weights: str | None = None
    """A bundled family, a folder or a hub id; mini where none is given."""
    random_weights: bool = False
    """Build --model without weights: times and memory do not depend on them, pictures do."""
    model: Literal["mini", "sd21"] | None = None
    """Which family --random-weights builds."""
    speedups: tuple[Speedup, ...] = DEFAULT_SPEEDUPS
    """Ways in which all restorers compute faster; run again with others to compare."""
    warmup: int = 1
    """Runs of each case that are not counted."""
    repeats: int = 3
    """Counted runs of each; the time is their median."""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu counts the processor's time of all threads: for a machine that is busy with other work."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    overwrite: bool = False
    """Replace files that exist already."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print parameters and multiply-adds of every model, counted without weights."""

    size: Annotated[int, tyro.conf.arg(metavar="PX")] = 512
    """Side of the square output, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a restorer as one file for another runtime: a small picture in, the restored one, 4 times as large, out."""

    restorer: Annotated[Literal["gendr-pix"], tyro.conf.Positional, tyro.conf.arg(metavar="RESTORER")]
    """Which restorer; only gendr-pix has no autoencoder."""
    output: OutputPath
    """Folder for the files."""
    format: Literal["onnx", "openvino", "ncnn"]
    """Which runtime: onnxruntime and others that read ONNX, OpenVINO, or ncnn."""
    int8: bool = False
    """Quantise to 8 bits; openvino only."""
    calibrate: Annotated[Path | None, tyro.conf.arg(metavar="PHOTOS")] = None
    """Folder of photos to calibrate --int8 with; six are enough."""
    guidance: float | None = None
    """PadCFG's omega, 0 to 3: two passes in the file; none is one pass without guidance."""
    pos_pad: Offset | None = None
    """PadCFG: rows and columns put before the picture in the positive branch, 0 to 7."""
    neg_pad: Offset | None = None
    """The same in the negative branch."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    overwrite: bool = False
    """Replace files that exist already."""

    @property
    def settings(self) -> RestoreSettings:
        """What the file does. Raises SettingsError for numbers out of range."""
        return RestoreSettings(
            restorer=self.restorer, guidance=self.guidance, pos_pad=self.pos_pad, neg_pad=self.neg_pad
        )


@dataclass(frozen=True, kw_only=True)
class Import:
    """Merge a published one-step system into a Stable Diffusion 2.1: a folder that runs as GenDR. Shows the licence."""

    system: Annotated[Literal["osediff", "pisa-sr", "hypir"], tyro.conf.Positional]
    """Which system."""
    base: Annotated[str, tyro.conf.arg(metavar="SD21")]
    """Folder or hub id of Stable Diffusion 2.1 base in diffusers' layout."""
    weights: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The system's published weights."""
    output: OutputPath
    """New folder for the merged weights."""
    prompt: str = ""
    """Text whose embedding is stored with the weights."""


Command = (
    Annotated[Restore, tyro.conf.subcommand("restore", prefix_name=False)]
    | Annotated[Compare, tyro.conf.subcommand("compare", prefix_name=False)]
    | Annotated[Bench, tyro.conf.subcommand("bench", prefix_name=False)]
    | Annotated[Export, tyro.conf.subcommand("export", prefix_name=False)]
    | Annotated[Info, tyro.conf.subcommand("info", prefix_name=False)]
    | Annotated[Import, tyro.conf.subcommand("import", prefix_name=False)]
)


def parse(argv: Sequence[str] | None) -> Restore | Compare | Bench | Export | Info | Import:
    """The command that the arguments name. SystemExit(2) where they make no sense, else ValueError."""
    command: Restore | Compare | Bench | Export | Info | Import = tyro.cli(
        Command,
        args=argv,
        prog="gendrpix",
        description="One-step photo restoration: GenDR, GenDR-Adc and GenDR-Pix.",
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=REGISTRY,
    )
    if isinstance(command, Restore):
        command.check()  # not where it is built: tyro would say it in a frame of its own
    return command

"""The command line's options, as dataclasses that tyro reads. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from gendrpix.specs import (
    COMPARED_OMEGA,
    DEFAULT_GUIDANCE,
    DEFAULT_SPEEDUPS,
    NEG_PAD,
    POS_PAD,
    Choice,
    ColorFix,
    Offset,
    Speedup,
)


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


def parse_tile(words: list[str]) -> int | Literal["auto"] | None:
    """The words "auto" and "none" (None), else a whole number."""
    word = words[0].lower()
    return "auto" if word == "auto" else None if word == "none" else int(word)


Tile = Annotated[
    int | Literal["auto"] | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PX|auto|none",
        instance_from_str=parse_tile,
        is_instance=lambda value: value is None or value == "auto" or isinstance(value, int),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    ),
]
Device = Literal["auto", "cuda", "mps", "cpu"]
Dtype = Literal["float32", "bfloat16", "float16"]
DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]
OutputPath = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What `restore` and `compare` share."""

    scale: float | None = None
    """How many times larger, 1 to 8; 4 where neither --scale nor --size is given."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Longer side of the result in pixels, in place of --scale."""
    crop: Annotated[tuple[int, int, int, int] | None, tyro.conf.arg(metavar="LEFT TOP WIDTH HEIGHT")] = None
    """Restore this part of the picture alone, in pixels of the picture."""
    pos_pad: Offset = POS_PAD
    """PadCFG: rows and columns put before the picture in the positive branch, 0 to 7."""
    neg_pad: Offset = NEG_PAD
    """The same in the negative branch."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    dtype: DtypeChoice = "auto"
    """The numbers the networks compute with; auto: the fastest on the device that change no pixel visibly."""
    speedups: tuple[Speedup, ...] = DEFAULT_SPEEDUPS
    """Ways to compute faster; those for CUDA are fp8 and graphs."""
    color_fix: ColorFix = "none"
    """Where results take their colours from: as restored, or low frequencies, or mean and contrast, of the input."""
    bits: Literal[8, 16] = 8
    """Bits a channel in the PNGs."""
    overwrite: bool = False
    """Replace files that exist already."""


@dataclass(frozen=True, kw_only=True)
class Restore(Common):
    """Restore and enlarge pictures. Each result is a PNG with the input's name, at its place in the folder.

    A result that is there already and was made of the same input in the same way is kept: run the command again to
    go on where it was stopped. Under torchrun or accelerate launch the processes share the files.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, or folders of them, with the folders within."""
    output: OutputPath
    """Folder for the results."""
    restorer: Literal["gendr", "gendr-adc", "gendr-pix"] = "gendr-pix"
    """Which restorer."""
    guidance: Omega = DEFAULT_GUIDANCE
    """PadCFG's omega, gendr-pix only; none is one pass without guidance."""
    tile: Tile = "auto"
    """Side of the tiles in pixels of the result, a multiple of 8; auto: tiles only where memory is short."""
    stream: bool = False
    """Write each result to disk as it is made, tile by tile: for results that do not fit into memory."""
    batch: int = 1
    """Most pictures of one size that are restored at once; more than 1 is for GPUs."""
    workers: int | None = None
    """Threads that read pictures, and as many that write; 1 on the CPU and 4 elsewhere where none is given."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file with a line for each picture: status, seconds, sizes, reason."""


@dataclass(frozen=True, kw_only=True)
class Compare(Common):
    """Restore one picture with every restorer; print and save time, memory and quality of each."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """A picture file."""
    output: OutputPath
    """Folder for the results, report.csv and report.json."""
    restorers: tuple[Choice, ...] = get_args(Choice)
    """Which restorers; gendr-pix* is gendr-pix without guidance."""
    baselines: Annotated[tuple[str, ...], tyro.conf.arg(name="with", metavar="NAME|FILE")] = ()
    """Networks of others beside them: names in GENDRPIX_BASELINES, or .safetensors, .pth, .param, .onnx files."""
    guidance: Omega = COMPARED_OMEGA
    """PadCFG's omega for gendr-pix."""
    plain_cfg: bool = False
    """Guide without offsets."""
    truth: Path | None = None
    """The picture as it should be, of the result's size: adds PSNR, SSIM and LPIPS."""
    lpips_net: Literal["alex", "squeeze", "vgg"] = "squeeze"
    """LPIPS's trunk; squeeze comes with the package, the others are downloaded."""
    warmup: int = 1
    """Runs of each restorer that are not counted."""
    repeats: int = 1
    """Counted runs of each; the time is their median."""


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
    guidance: Omega = None
    """PadCFG's omega: two passes in the file; none is one pass without guidance."""
    pos_pad: Offset = POS_PAD
    """PadCFG: rows and columns put before the picture in the positive branch, 0 to 7."""
    neg_pad: Offset = NEG_PAD
    """The same in the negative branch."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    overwrite: bool = False
    """Replace files that exist already."""


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
    """The command that the arguments name. SystemExit(2) where they make no sense."""
    command: Restore | Compare | Bench | Export | Info | Import = tyro.cli(
        Command,
        args=argv,
        prog="gendrpix",
        description="One-step photo restoration: GenDR, GenDR-Adc and GenDR-Pix.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return command


def check_common(options: Common) -> None:
    """Raise ValueError for numbers out of range, before anything is read or loaded."""
    from gendrpix.settings.checks import check_offset

    if options.scale is not None and options.size is not None:
        raise ValueError("--scale and --size say the same thing twice; give one of them.")
    if options.scale is not None and not 1.0 <= options.scale <= 8.0:
        raise ValueError(f"--scale is {options.scale}; expected 1 to 8.")
    if options.size is not None and options.size < 1:
        raise ValueError(f"--size is {options.size}; expected at least 1.")
    check_offset(options.pos_pad)
    check_offset(options.neg_pad)


def check_restore(options: Restore) -> None:
    """Raise ValueError for options that make no sense together."""
    from gendrpix.settings.checks import check_tile

    check_common(options)
    if options.guidance is not None and options.restorer != "gendr-pix":
        raise ValueError(f"--guidance is for gendr-pix only, not for {options.restorer}; leave it out.")
    for name, number in (("--batch", options.batch), ("--workers", options.workers)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1.")
    if isinstance(options.tile, int):
        check_tile(options.tile)
    if options.stream and options.batch > 1:
        raise ValueError(f"--stream restores one picture at a time; leave out --batch {options.batch}.")
    if options.stream and options.tile is None:
        raise ValueError("--stream restores in tiles; leave out --tile none.")
    if options.stream and options.color_fix == "adain":
        raise ValueError("--color-fix adain needs the whole picture at once; choose wavelet, or leave out --stream.")

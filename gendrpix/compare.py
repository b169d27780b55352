"""Many restorers on one picture: a record of each with its time, memory and quality."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from gendrpix.color import check_color_fix, correct_color
from gendrpix.guidance import Branches, check_offset
from gendrpix.images import (
    Limits,
    Picture,
    check_output_size,
    open_picture,
    output_size,
    resize,
    to_pil,
)
from gendrpix.measure import Peak, measure_peak, timed
from gendrpix.outputs import enlarged_alpha
from gendrpix.pipelines import RestorerPipeline, load_restorer
from gendrpix.planner import Fitted, restore_within
from gendrpix.scores import Scorer, Scores
from gendrpix.specs import (
    CHOICE_LABELS,
    COMPARED_OMEGA,
    DEFAULT_SPEEDUPS,
    NEG_PAD,
    POS_PAD,
    UNGUIDED,
    ColorFix,
    Offset,
    Speedup,
)

INPUT = "input"
INPUT_LABEL = "Input (bicubic)"

SCORED = Limits(max_pixels=Limits().max_output_pixels, max_aspect=float("inf"))


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """How every restorer of one comparison is run."""

    scale: float = 4.0
    """1 to 8; the output has floor(n * scale + 0.5) pixels a side."""
    guidance: float | None = COMPARED_OMEGA
    """PadCFG's omega for "gendr-pix"; None turns it into "gendr-pix*"."""
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    plain_cfg: bool = False
    """Guide without offsets, for comparison."""
    batched: bool = True
    """Run the two branches as one batch (faster) or one after the other (less memory)."""
    color_fix: ColorFix = "none"
    """Where the results take their broad colours from (`gendrpix.color`)."""
    warmup: int = 1
    """Runs at the same size that are not counted."""
    repeats: int = 1
    """Counted runs; the time is their median."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.scale <= 8.0:
            raise ValueError(f"scale is {self.scale}; expected 1 to 8.")
        if self.guidance is not None and not abs(self.guidance) < float("inf"):
            raise ValueError(f"guidance is {self.guidance}; expected a finite number, or none.")
        check_offset(self.pos_pad)
        check_offset(self.neg_pad)
        check_color_fix(self.color_fix)
        if self.warmup < 0 or self.repeats < 1:
            raise ValueError(f"warmup is {self.warmup} and repeats {self.repeats}; expected at least 0 and at least 1.")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One restorer's result on one picture, and what it took."""

    name: str
    """A key of `specs.CHOICE_LABELS`, or "input" for the resized photo."""
    label: str
    image: PIL.Image.Image
    """What a user sees and saves: RGB, or RGBA where the photo has an alpha."""
    pixels: Tensor
    """(1, 3, H, W) float32 in [-1, 1] on the CPU, before the rounding to 8 bits."""
    branches: Branches | None = None
    """PadCFG's two branches, float32 on the CPU, colours not corrected: `guidance.mix` moves omega without a run."""
    seconds: float | None = None
    """Median wall time from the decoded photo to the restored pixels, resizing included; None for the input."""
    all_seconds: tuple[float, ...] = ()
    ratio: float | None = None
    """How many times as fast as GenDR in this comparison; None where GenDR was not run."""
    peak: Peak | None = None
    scores: Scores = field(default_factory=Scores)
    """Of the picture rounded to 8 bits, as it is saved."""
    device: str = ""
    dtype: str = ""
    settings: CompareSettings
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked for lack of memory: tiles."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the result, in pixels."""
        return self.image.size


class RestorerCache:
    """Loads each pipeline once, on first use, for all threads; "gendr-pix" and "gendr-pix*" share one."""

    def __init__(
        self,
        weights: str | Path = "mini",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        speedups: Sequence[Speedup] = DEFAULT_SPEEDUPS,
    ) -> None:
        self.weights = weights
        self.speedups = tuple(speedups)
        self.device = torch.device(device)
        self.dtype = dtype
        self._lock = threading.Lock()
        self._pipelines: dict[str, RestorerPipeline] = {}

    def __call__(self, name: str) -> RestorerPipeline:
        """The pipeline of a restorer or choice. Raises ValueError where there are no weights of it."""
        name = restorer_of(name)
        with self._lock:
            if name not in self._pipelines:
                self._pipelines[name] = load_restorer(
                    name, self.weights, device=self.device, dtype=self.dtype, speedups=self.speedups
                )
            return self._pipelines[name]


def restorer_of(choice: str) -> str:
    """The restorer behind a choice: "gendr-pix*" => "gendr-pix"."""
    return "gendr-pix" if choice == UNGUIDED else choice


def order_choices(choices: Sequence[str], settings: CompareSettings) -> tuple[str, ...]:
    """The choices in the order they run, GenDR first, none twice; Pix without guidance is Pix*.

    Raises ValueError for an unknown one or none.
    """
    unknown = [choice for choice in choices if choice not in CHOICE_LABELS]
    if unknown or not choices:
        got = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"The restorers to compare are some of {', '.join(CHOICE_LABELS)}; got {got}.")
    if settings.guidance is None:
        choices = [UNGUIDED if choice == "gendr-pix" else choice for choice in choices]
    return tuple(name for name in CHOICE_LABELS if name in choices)


def compare(
    picture: Picture,
    choices: Sequence[str],
    settings: CompareSettings,
    pipelines: Callable[[str], RestorerPipeline],
    scorer: Scorer,
    truth: Picture | None = None,
    *,
    quickest_first: bool = False,
) -> Iterator[Record]:
    """Restore `picture` with each choice and yield its record as soon as it is complete, GenDR first.

    choices: keys of `specs.CHOICE_LABELS`. pipelines: gives the pipeline of a choice, a `RestorerCache` for
    instance. truth: the picture as it should be, of the result's size. quickest_first: in the other order, so that
    something can be seen soon; the ratios are then missing until `relative_to_gendr`.
    Raises ValueError at once for unknown choices, a result beyond the limits or a truth of another size.
    """
    ordered = order_choices(choices, settings)
    height, width = output_size(picture.height, picture.width, settings.scale)
    check_output_size(height, width)
    check_truth(truth, width, height)
    return _records(picture, ordered[::-1] if quickest_first else ordered, settings, pipelines, scorer, truth)


def _records(
    picture: Picture,
    choices: Sequence[str],
    settings: CompareSettings,
    pipelines: Callable[[str], RestorerPipeline],
    scorer: Scorer,
    truth: Picture | None,
) -> Iterator[Record]:
    reference_s: float | None = None
    for choice in choices:
        record = run_choice(picture, choice, settings, pipelines(choice), scorer, truth, reference_s)
        if choice == "gendr":
            reference_s = record.seconds
        yield record


def relative_to_gendr(records: Sequence[Record]) -> list[Record]:
    """The records with their ratios, now that GenDR's is among them; unchanged without it."""
    reference_s = next((record.seconds for record in records if record.name == "gendr"), None)
    if reference_s is None:
        return list(records)
    return [
        record if record.seconds is None else replace(record, ratio=reference_s / record.seconds) for record in records
    ]


def run_choice(
    picture: Picture,
    choice: str,
    settings: CompareSettings,
    pipeline: RestorerPipeline,
    scorer: Scorer,
    truth: Picture | None = None,
    reference_s: float | None = None,
) -> Record:
    """One record: warm-up and timed runs under one memory measurement, then the metrics, which are not timed.

    reference_s: GenDR's seconds; the ratio of GenDR itself is 1.
    """
    guidance = settings.guidance if choice == "gendr-pix" else None

    def restore_once() -> Fitted:
        pixels = pipeline.prepare(picture, settings.scale)
        fitted = restore_within(
            pipeline,
            pixels,
            guidance,
            batched=settings.batched,
            keep_branches=guidance is not None,
            pos_pad=settings.pos_pad,
            neg_pad=settings.neg_pad,
            plain_cfg=settings.plain_cfg,
        )
        return fitted._replace(restored=correct_color(fitted.restored, pixels, settings.color_fix))

    with measure_peak(pipeline.device, resident_bytes=weight_bytes(pipeline)) as peak:
        timing = timed(restore_once, pipeline.device, warmup=settings.warmup, repeats=settings.repeats)
    restored, branches, notes = timing.result
    seconds = timing.seconds
    reference_s = seconds if choice == "gendr" else reference_s
    image = to_pil(restored, enlarged_alpha(picture, restored))
    return Record(
        name=choice,
        label=CHOICE_LABELS[choice],
        image=image,
        pixels=restored.float().cpu(),
        branches=None if branches is None else Branches(*(branch.float().cpu() for branch in branches)),
        seconds=seconds,
        all_seconds=timing.all_seconds,
        ratio=None if reference_s is None else reference_s / seconds,
        peak=peak,
        scores=score_image(image, scorer, truth),
        device=describe_device(pipeline.device),
        dtype=str(pipeline.unet.dtype).removeprefix("torch."),
        settings=settings,
        notes=notes,
    )


def input_record(picture: Picture, settings: CompareSettings, scorer: Scorer, truth: Picture | None = None) -> Record:
    """The photo at the output size, which every restorer starts from: the line that the others are read against."""
    height, width = output_size(picture.height, picture.width, settings.scale)
    check_output_size(height, width)
    check_truth(truth, width, height)
    pixels = resize(picture.color, height, width)
    image = to_pil(pixels, enlarged_alpha(picture, pixels))
    scores = score_image(image, scorer, truth)
    return Record(name=INPUT, label=INPUT_LABEL, image=image, pixels=pixels, scores=scores, settings=settings)


def score_image(image: PIL.Image.Image, scorer: Scorer, truth: Picture | None = None) -> Scores:
    """The metrics of a picture as it is saved, in 8 bits; the alpha does not count."""
    return scorer.score(open_picture(image, SCORED).color, None if truth is None else truth.color)


def check_truth(truth: Picture | None, width: int, height: int) -> None:
    """Raise ValueError where there is a truth and it has another size than the result."""
    if truth is not None and (truth.width, truth.height) != (width, height):
        raise ValueError(
            f"The truth has {truth.width} x {truth.height} pixels and the result {width} x {height}; "
            "give a truth of the result's size, or another scale."
        )


def weight_bytes(pipeline: RestorerPipeline) -> int:
    """Bytes of the pipeline's parameters and buffers."""
    modules = [module for module in pipeline.components.values() if isinstance(module, torch.nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.nbytes for tensor in tensors)


def describe_device(device: torch.device) -> str:
    """The device as a report names it: "cpu (2 threads)", "cuda (NVIDIA H100)", "mps"."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return device.type


def load_all(cache: RestorerCache, choices: Sequence[str]) -> Mapping[str, RestorerPipeline]:
    """Load the pipelines of all choices ahead of the first run, so that missing weights are said at once."""
    return {choice: cache(choice) for choice in choices}

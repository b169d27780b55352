"""Many restorers on one picture: a record of each with its time, memory and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import PIL.Image
from torch import Tensor

from gendrpix.devices import describe_device
from gendrpix.image.color_fix import correct_color, without_chroma
from gendrpix.image.picture import Limits, Picture
from gendrpix.image.read import open_picture
from gendrpix.image.resize import check_output_size, output_size, resize
from gendrpix.image.transparency import flattened
from gendrpix.image.write import to_pil
from gendrpix.metrics.profiling import Peak, measure_peak, timed
from gendrpix.metrics.scorer import Scorer, Scores
from gendrpix.restore.guidance import Branches
from gendrpix.restore.memory import weight_bytes
from gendrpix.restore.pipelines import RestorerPipeline, enlarged_alpha
from gendrpix.restore.planner import Fitted, restore_within
from gendrpix.settings.restoration import CompareSettings, order_choices
from gendrpix.specs import (
    CHOICE_LABELS,
)

INPUT = "input"
INPUT_LABEL = "Input (bicubic)"

SCORED = Limits(max_pixels=Limits().max_output_pixels, max_aspect=float("inf"))


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
        corrected = correct_color(fitted.restored, pixels, settings.color_fix)
        return fitted._replace(restored=without_chroma(corrected) if picture.grey else corrected)

    with measure_peak(pipeline.device, resident_bytes=weight_bytes(pipeline)) as peak:
        timing = timed(restore_once, pipeline.device, warmup=settings.warmup, repeats=settings.repeats)
    restored, branches, notes = timing.result
    if branches is not None and picture.grey:
        branches = Branches(*(without_chroma(branch) for branch in branches))
    seconds = timing.seconds
    reference_s = seconds if choice == "gendr" else reference_s
    image = to_pil(restored, enlarged_alpha(picture, restored), picture.grey)
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
    image = to_pil(pixels, enlarged_alpha(picture, pixels), picture.grey)
    scores = score_image(image, scorer, truth)
    return Record(name=INPUT, label=INPUT_LABEL, image=image, pixels=pixels, scores=scores, settings=settings)


def score_image(image: PIL.Image.Image, scorer: Scorer, truth: Picture | None = None) -> Scores:
    """The metrics of a picture as it is saved, in 8 bits.

    Transparent parts are laid over mid-grey by the picture's alpha, else the truth's, in both: hidden colours do not
    count.
    """
    result = open_picture(image, SCORED)
    alpha = result.alpha if result.alpha is not None or truth is None else truth.alpha
    return scorer.score(flattened(result.color, alpha), None if truth is None else flattened(truth.color, alpha))


def check_truth(truth: Picture | None, width: int, height: int) -> None:
    """Raise ValueError where there is a truth and it has another size than the result."""
    if truth is not None and (truth.width, truth.height) != (width, height):
        raise ValueError(
            f"The truth has {truth.width} x {truth.height} pixels and the result {width} x {height}; "
            "give a truth of the result's size, or another scale."
        )

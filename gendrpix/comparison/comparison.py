"""Many restorers on one picture: a record of each with its time, memory and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import PIL.Image
from torch import Tensor

from gendrpix.baselines.restorer import ImageRestorer, Restoration
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
from gendrpix.restore.planner import restore_within
from gendrpix.settings.restoration import CompareSettings, order_choices
from gendrpix.specs import (
    CHOICE_LABELS,
)
from gendrpix.weights.verify import digest_weights, stated_licence

INPUT = "input"
INPUT_LABEL = "Input (bicubic)"

SCORED = Limits(max_pixels=Limits().max_output_pixels, max_aspect=float("inf"))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One restorer's result on one picture, and what it took."""

    name: str
    """A key of `specs.CHOICE_LABELS`, "input" for the resized photo, or the name of a network of others."""
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
    baselines: Sequence[ImageRestorer] = (),
) -> Iterator[Record]:
    """Restore `picture` with each choice and yield its record as soon as it is complete, GenDR first.

    choices: keys of `specs.CHOICE_LABELS`. pipelines: gives the pipeline of a choice, a `RestorerCache` for
    instance. truth: the picture as it should be, of the result's size. quickest_first: in the other order, so that
    something can be seen soon; the ratios are then missing until `relative_to_gendr`. baselines: networks of others,
    restored after the choices.
    Raises ValueError at once for unknown choices, a result beyond the limits or a truth of another size.
    """
    ordered = order_choices(choices, settings)
    height, width = output_size(picture.height, picture.width, settings.scale)
    check_output_size(height, width)
    check_truth(truth, width, height)
    names = ordered[::-1] if quickest_first else ordered
    return _records(picture, names, settings, pipelines, scorer, truth, baselines)


def _records(
    picture: Picture,
    choices: Sequence[str],
    settings: CompareSettings,
    pipelines: Callable[[str], RestorerPipeline],
    scorer: Scorer,
    truth: Picture | None,
    baselines: Sequence[ImageRestorer],
) -> Iterator[Record]:
    reference_s: float | None = None
    for choice in choices:
        record = run_choice(picture, choice, settings, pipelines(choice), scorer, truth, reference_s)
        if choice == "gendr":
            reference_s = record.seconds
        yield record
    for baseline in baselines:
        yield run_restorer(picture, baseline, settings, scorer, truth, reference_s)


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
    """The record of one of our restorers, see `run_restorer`. The ratio of GenDR itself is 1."""
    own = OwnRestorer(pipeline, choice)
    record = run_restorer(picture, own, settings, scorer, truth, reference_s)
    return replace(record, ratio=1.0) if choice == "gendr" else record


def run_restorer(
    picture: Picture,
    restorer: ImageRestorer,
    settings: CompareSettings,
    scorer: Scorer,
    truth: Picture | None = None,
    reference_s: float | None = None,
) -> Record:
    """One record: warm-up and timed runs under one memory measurement, then the metrics, which are not timed.

    reference_s: GenDR's seconds, for the ratio.
    """

    def restore_once() -> Restoration:
        return restorer.restore(restorer.prepare(picture, settings.scale), settings)

    with measure_peak(restorer.device, resident_bytes=restorer.resident_bytes) as peak:
        timing = timed(restore_once, restorer.device, warmup=settings.warmup, repeats=settings.repeats)
    restored, notes, branches = timing.result
    if picture.grey:
        restored = without_chroma(restored)
        branches = None if branches is None else Branches(*(without_chroma(branch) for branch in branches))
    image = to_pil(restored, enlarged_alpha(picture, restored), picture.grey)
    return Record(
        name=restorer.name,
        label=restorer.label,
        image=image,
        pixels=restored.float().cpu(),
        branches=None if branches is None else Branches(*(branch.float().cpu() for branch in branches)),
        seconds=timing.seconds,
        all_seconds=timing.all_seconds,
        ratio=None if reference_s is None else reference_s / timing.seconds,
        peak=peak,
        scores=score_image(image, scorer, truth),
        device=describe_device(restorer.device),
        dtype=str(restorer.dtype).removeprefix("torch."),
        settings=settings,
        notes=notes,
    )


class OwnRestorer:
    """One of our restorers as an `ImageRestorer`."""

    native_scale = 1

    def __init__(self, pipeline: RestorerPipeline, choice: str) -> None:
        """choice: a key of `specs.CHOICE_LABELS`."""
        self.pipeline, self.name, self.label = pipeline, choice, CHOICE_LABELS[choice]
        self.device, self.dtype = pipeline.device, pipeline.unet.dtype
        self.resident_bytes = weight_bytes(pipeline)

    @property
    def licence(self) -> str:
        """Licence that the card beside the weights states."""
        return stated_licence(self.pipeline.folder)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the weights' folder; empty for a pipeline that was not loaded from one."""
        return "" if self.pipeline.folder is None else digest_weights(self.pipeline.folder)

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """See `ImageRestorer`."""
        return self.pipeline.prepare(picture, scale)

    def restore(self, pixels: Tensor, settings: CompareSettings) -> Restoration:
        """See `ImageRestorer`."""
        guidance = settings.guidance if self.name == "gendr-pix" else None
        fitted = restore_within(
            self.pipeline,
            pixels,
            guidance,
            batched=settings.batched,
            keep_branches=guidance is not None,
            pos_pad=settings.pos_pad,
            neg_pad=settings.neg_pad,
            plain_cfg=settings.plain_cfg,
        )
        return Restoration(correct_color(fitted.restored, pixels, settings.color_fix), fitted.notes, fitted.branches)


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

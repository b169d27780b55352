"""Many restorers on one picture: the result of each with its time, memory and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import PIL.Image
from torch import Tensor

from gendrpix.baselines.restorer import ImageRestorer, Restoration
from gendrpix.devices import describe_device
from gendrpix.image.color_fix import without_chroma
from gendrpix.image.picture import Limits, Picture
from gendrpix.image.read import open_picture
from gendrpix.image.resize import check_output_size, output_size, resize
from gendrpix.image.transparency import flattened
from gendrpix.image.write import to_pil
from gendrpix.metrics.profiling import ONCE, Peak, Runs, measure_peak, timed
from gendrpix.metrics.scorer import Scorer, Scores
from gendrpix.restore.guidance import Branches
from gendrpix.restore.memory import weight_bytes
from gendrpix.restore.restorer import OneStepRestorer, Result, dtype_name, enlarged_alpha
from gendrpix.settings.recipe import INPUT
from gendrpix.settings.restoration import RestoreSettings, order_choices
from gendrpix.specs import CHOICE_LABELS, Choice
from gendrpix.weights.verify import digest_weights, stated_licence

INPUT_LABEL = "Input (bicubic)"

SCORED = Limits(max_pixels=Limits().max_output_pixels, max_aspect=float("inf"))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one restorer took on one picture, and how good its result is. It holds no pixels."""

    name: str
    """A key of `specs.CHOICE_LABELS`, "input" for the resized photo, or the name of a network of others."""
    label: str
    size: tuple[int, int]
    """(width, height) of the result, in pixels."""
    settings: RestoreSettings
    """How the result was made, resolved."""
    runs: Runs = ONCE
    """Runs that were not counted, and those that were."""
    seconds: float | None = None
    """Median wall time from the decoded photo to the restored pixels, resizing included; None for the input."""
    all_seconds: tuple[float, ...] = ()
    ratio: float | None = None
    """How many times as fast as GenDR in this comparison; None where GenDR was not run."""
    peak: Peak | None = None
    scores: Scores = field(default_factory=Scores)
    """Of the picture rounded to 8 bits, as it is saved."""
    device: str = ""
    """Empty for what was not computed here."""
    dtype: str = ""
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked for lack of memory: tiles."""


class Compared(NamedTuple):
    """One line of a comparison: what it took, what it gave, and the picture as a user sees it."""

    measurement: Measurement
    result: Result
    """float32 on the CPU, before the rounding to 8 bits; with PadCFG's branches where it was guided."""
    image: PIL.Image.Image
    """RGB, or RGBA where the photo has an alpha."""


def compare(
    picture: Picture,
    choices: Sequence[str],
    settings: RestoreSettings,
    restorers: Callable[[str], OneStepRestorer],
    scorer: Scorer,
    truth: Picture | None = None,
    *,
    runs: Runs = ONCE,
    quickest_first: bool = False,
    baselines: Sequence[ImageRestorer] = (),
) -> Iterator[Compared]:
    """Restore `picture` with each choice and yield its line as soon as it is complete, GenDR first.

    picture: as read and cut. choices: keys of `specs.CHOICE_LABELS`. settings: those of gendr-pix; the others take
    what concerns them. restorers: gives the restorer of a choice, a `RestorerCache` for instance. truth: the picture
    as it should be, of the result's size. quickest_first: in the other order, so that something can be seen soon;
    the ratios are then missing until `relative_to_gendr`. baselines: networks of others, restored after the choices.
    Raises ValueError at once for unknown choices, a result beyond the limits or a truth of another size.
    """
    ordered = order_choices(choices, settings)
    check_result(picture, settings, truth)
    names = ordered[::-1] if quickest_first else ordered
    return _lines(picture, names, settings, restorers, scorer, truth, runs, baselines)


def _lines(
    picture: Picture,
    choices: Sequence[Choice],
    settings: RestoreSettings,
    restorers: Callable[[str], OneStepRestorer],
    scorer: Scorer,
    truth: Picture | None,
    runs: Runs,
    baselines: Sequence[ImageRestorer],
) -> Iterator[Compared]:
    reference_s: float | None = None
    for choice in choices:
        line = run_choice(picture, settings.for_choice(choice), restorers(choice), scorer, truth, reference_s, runs)
        if choice == "gendr":
            reference_s = line.measurement.seconds
        yield line
    for baseline in baselines:
        yield run_restorer(picture, baseline, settings, scorer, truth, reference_s, runs)


def relative_to_gendr(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements with their ratios, now that GenDR's is among them; unchanged without it."""
    reference_s = next((one.seconds for one in measurements if one.name == "gendr"), None)
    if reference_s is None:
        return list(measurements)
    return [one if one.seconds is None else replace(one, ratio=reference_s / one.seconds) for one in measurements]


def run_choice(
    picture: Picture,
    settings: RestoreSettings,
    restorer: OneStepRestorer,
    scorer: Scorer,
    truth: Picture | None = None,
    reference_s: float | None = None,
    runs: Runs = ONCE,
) -> Compared:
    """The line of one of our restorers, see `run_restorer`. The ratio of GenDR itself is 1."""
    settings = restorer.resolve(settings)
    line = run_restorer(picture, OwnRestorer(restorer, settings.choice), settings, scorer, truth, reference_s, runs)
    if settings.choice != "gendr":
        return line
    return line._replace(measurement=replace(line.measurement, ratio=1.0))


def run_restorer(
    picture: Picture,
    restorer: ImageRestorer,
    settings: RestoreSettings,
    scorer: Scorer,
    truth: Picture | None = None,
    reference_s: float | None = None,
    runs: Runs = ONCE,
) -> Compared:
    """One line: warm-up and timed runs under one memory measurement, then the metrics, which are not timed.

    reference_s: GenDR's seconds, for the ratio.
    """
    scale = settings.scale_for(picture.width, picture.height)

    def restore_once() -> Restoration:
        return restorer.restore(restorer.prepare(picture, scale), settings)

    with measure_peak(restorer.device, resident_bytes=restorer.resident_bytes) as peak:
        timing = timed(restore_once, restorer.device, warmup=runs.warmup, repeats=runs.repeats)
    restored, notes, branches = timing.result
    if picture.grey:
        restored = without_chroma(restored)
        branches = None if branches is None else Branches(*(without_chroma(branch) for branch in branches))
    settings = settings.resolved(dtype=dtype_name(restorer.dtype))
    result = Result(pixels=restored, settings=settings, branches=branches and Branches(*branches), notes=notes)
    image = to_pil(restored, enlarged_alpha(picture, restored), picture.grey)
    measurement = Measurement(
        name=restorer.name,
        label=restorer.label,
        size=result.size,
        settings=settings,
        runs=runs,
        seconds=timing.seconds,
        all_seconds=timing.all_seconds,
        ratio=None if reference_s is None else reference_s / timing.seconds,
        peak=peak,
        scores=score_image(image, scorer, truth),
        device=describe_device(restorer.device),
        dtype=dtype_name(restorer.dtype),
        notes=notes,
    )
    return Compared(measurement, result.on_cpu(), image)


class OwnRestorer:
    """One of our restorers as an `ImageRestorer`."""

    native_scale = 1

    def __init__(self, restorer: OneStepRestorer, choice: str) -> None:
        """choice: a key of `specs.CHOICE_LABELS`."""
        self.restorer, self.name, self.label = restorer, choice, CHOICE_LABELS[choice]
        self.device, self.dtype = restorer.device, restorer.unet.dtype
        self.resident_bytes = weight_bytes(restorer)

    @property
    def licence(self) -> str:
        """Licence that the card beside the weights states."""
        return stated_licence(self.restorer.folder)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the weights' folder; empty for a restorer that was not loaded from one."""
        return "" if self.restorer.folder is None else digest_weights(self.restorer.folder)

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """The picture as it was read; `OneStepRestorer.run` prepares it."""
        return picture.color

    def restore(self, pixels: Tensor, settings: RestoreSettings) -> Restoration:
        """See `ImageRestorer`."""
        result = self.restorer.run(pixels, settings, keep_branches=settings.guidance is not None)
        return Restoration(result.pixels, result.notes, result.branches)


def input_line(picture: Picture, settings: RestoreSettings, scorer: Scorer, truth: Picture | None = None) -> Compared:
    """The photo at the output size, which every restorer starts from: the line that the others are read against."""
    height, width = check_result(picture, settings, truth)
    pixels = resize(picture.color, height, width)
    image = to_pil(pixels, enlarged_alpha(picture, pixels), picture.grey)
    settings = settings.for_choice("gendr-pix*").resolved(dtype="float32")
    measurement = Measurement(
        name=INPUT, label=INPUT_LABEL, size=(width, height), settings=settings, scores=score_image(image, scorer, truth)
    )
    return Compared(measurement, Result(pixels=pixels, settings=settings), image)


def check_result(picture: Picture, settings: RestoreSettings, truth: Picture | None = None) -> tuple[int, int]:
    """(height, width) of the result. Raises ValueError beyond the limits and for a truth of another size."""
    height, width = output_size(picture.height, picture.width, settings.scale_for(picture.width, picture.height))
    check_output_size(height, width)
    check_truth(truth, width, height)
    return height, width


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

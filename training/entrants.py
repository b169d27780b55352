"""What an evaluation compares: resizers, the restorers of a weights folder, folders of ready-made results."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from gendrpix.compare import (
    SCORED,
    CompareSettings,
    Record,
    RestorerCache,
    check_truth,
    describe_device,
    restorer_of,
    run_choice,
    score_image,
)
from gendrpix.images import open_picture, output_size, resize, to_pil
from gendrpix.measure import timed
from gendrpix.scores import Scorer
from gendrpix.specs import CHOICE_LABELS
from gendrpix.weights import find_restorer_folder
from training.cases import Case, Cases, enumerated, named_pictures

Choice = Literal["bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*"]
CHOICES: tuple[str, ...] = get_args(Choice)
RESIZERS = {"bicubic": "Bicubic", "lanczos": "Lanczos"}
TRUTH = "truth"


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One line of the table: how it treats a case, and how a report names it."""

    name: str
    label: str
    run: Callable[[Case, Scorer], Record]
    """Restores, times and scores one case."""
    computes: bool = True
    """False for what is only read: the truth, ready-made results."""
    weights: str = ""
    """Digest of the network's weights, where there are any."""


def make_entrants(
    choices: Sequence[str],
    *,
    guidance: Sequence[float],
    settings: CompareSettings,
    cache: RestorerCache,
    attention: Sequence[str] = (),
) -> list[Entrant]:
    """The entrants in the order asked for, bicubic first in any case, "gendr-pix" once for every omega.

    attention: kinds of self-attention, an entrant for each where they are several; none is as loaded.
    Loads the weights, so that missing ones are said at once. Raises ValueError for an unknown or repeated choice.
    """
    unknown = [choice for choice in choices if choice not in CHOICES]
    if unknown:
        raise ValueError(f"Unknown restorer {unknown[0]!r}; expected some of {', '.join(CHOICES)}.")
    if "gendr-pix" in choices and not guidance:
        raise ValueError("gendr-pix needs --guidance OMEGA; give one or more, or ask for gendr-pix* alone.")
    entrants = []
    for choice in dict.fromkeys(("bicubic", *choices)):
        if choice in RESIZERS:
            run = partial(run_resizer, choice, settings)
            entrants.append(Entrant(name=choice, label=RESIZERS[choice], run=run))
            continue
        cache(choice)
        digest = weights_digest(find_restorer_folder(restorer_of(choice), cache.weights))
        omegas = tuple(dict.fromkeys(guidance)) if choice == "gendr-pix" else (None,)
        kinds = tuple(dict.fromkeys(attention)) or (None,)
        for omega, kind in product(omegas, kinds):
            guided = dataclasses.replace(settings, guidance=omega)
            name = f"{choice}@{omega:g}" if omega is not None and len(omegas) > 1 else choice
            label = CHOICE_LABELS[choice] + ("" if omega is None else f" (ω {omega:g})")
            entrants.append(
                Entrant(
                    name=f"{name}/{kind}" if len(kinds) > 1 else name,
                    label=f"{label}, {kind}" if len(kinds) > 1 else label,
                    run=Restorer(choice, guided, cache, kind),
                    weights=digest,
                )
            )
    return entrants


class Restorer:
    """Runs one restorer; each picture size is warmed up when it first comes."""

    def __init__(
        self, choice: str, settings: CompareSettings, cache: RestorerCache, attention: str | None = None
    ) -> None:
        self.choice, self.settings, self.cache, self.attention = choice, settings, cache, attention
        self._warm_sizes: set[tuple[int, int]] = set()

    def __call__(self, case: Case, scorer: Scorer) -> Record:
        """The record of one case. Raises ValueError where the truth's size does not fit."""
        size = (case.photo.height, case.photo.width)
        height, width = output_size(*size, self.settings.scale)
        check_truth(case.truth, width, height)
        warmup = 0 if size in self._warm_sizes else self.settings.warmup
        self._warm_sizes.add(size)
        settings = dataclasses.replace(self.settings, warmup=warmup)
        pipeline = self.cache(self.choice)
        if self.attention is not None:  # each time: entrants share the pipeline
            pipeline.set_attention(self.attention)
        return run_choice(case.photo, self.choice, settings, pipeline, scorer, case.truth)


def run_resizer(choice: str, settings: CompareSettings, case: Case, scorer: Scorer) -> Record:
    """Bicubic as every restorer's input is made (antialiased, clamped), or Pillow's Lanczos; timed on the CPU."""
    height, width = output_size(case.photo.height, case.photo.width, settings.scale)
    check_truth(case.truth, width, height)

    def enlarge() -> Image.Image:
        if choice == "bicubic":
            return to_pil(resize(case.photo.color, height, width))
        return to_pil(case.photo.color).resize((width, height), Image.Resampling.LANCZOS)

    timing = timed(enlarge, "cpu", warmup=settings.warmup, repeats=settings.repeats)
    record = ready_record(choice, RESIZERS[choice], timing.result, settings, case, scorer)
    device = describe_device(case.photo.color.device)
    return dataclasses.replace(record, seconds=timing.seconds, all_seconds=timing.all_seconds, device=device)


def ready_record(
    name: str, label: str, image: Image.Image, settings: CompareSettings, case: Case, scorer: Scorer
) -> Record:
    """The record of a picture that exists already."""
    scores = score_image(image, scorer, case.truth)
    return Record(
        name=name, label=label, image=image, pixels=open_picture(image, SCORED).color, scores=scores, settings=settings
    )


def truth_entrant(settings: CompareSettings) -> Entrant:
    """The truth itself under the metrics that need none: what the others' figures are read against."""

    def run(case: Case, scorer: Scorer) -> Record:
        assert case.truth is not None
        return ready_record(TRUTH, "Truth", to_pil(case.truth.color), settings, _without_truth(case), scorer)

    return Entrant(name=TRUTH, label="Truth", run=run, computes=False)


def _without_truth(case: Case) -> Case:
    return dataclasses.replace(case, truth=None)


def output_entrants(
    words: Sequence[str], cases: Cases, settings: CompareSettings, *, common: bool = False
) -> tuple[list[Entrant], Cases]:
    """Entrants for NAME=FOLDER, folders of ready-made results named as the cases are, and the cases they all have.

    Raises ValueError for a malformed word, a taken name, and missing results unless `common` restricts the set.
    """
    entrants: list[Entrant] = []
    taken = {name.casefold() for name in (TRUTH, *CHOICES, *RESIZERS.values(), *CHOICE_LABELS.values())}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise ValueError(f"--outputs got {word!r}; expected NAME=FOLDER.")
        if name.casefold() in taken:
            raise ValueError(f"--outputs got the name {name!r}, which is taken; choose another.")
        taken.add(name.casefold())
        files = named_pictures(Path(place))
        missing = [case for case in cases.loaders if case not in files]
        if len(missing) == len(cases):
            raise ValueError(f"{place} has no picture of {cases.label}; name the results as the inputs are named.")
        if missing and not common:
            raise ValueError(
                f"{name} lacks {len(missing)} of {len(cases)} results ({enumerated(missing)}); "
                "add them, or pass --common to use only pictures that all have."
            )
        cases = cases.only(files)
        entrants.append(Entrant(name=name, label=name, run=partial(_score_file, name, files, settings), computes=False))
    if not len(cases):
        raise ValueError("The folders of --outputs have no picture in common; evaluate them one by one.")
    return entrants, cases


def _score_file(name: str, files: dict[str, Path], settings: CompareSettings, case: Case, scorer: Scorer) -> Record:
    color = open_picture(files[case.name]).color
    height, width = output_size(case.photo.height, case.photo.width, settings.scale)
    if color.shape[-2:] != (height, width):
        raise ValueError(
            f"{name}'s result {files[case.name].name} has {color.shape[-1]} x {color.shape[-2]} pixels; "
            f"expected {width} x {height}, {settings.scale:g} times its input."
        )
    return ready_record(name, name, to_pil(color), settings, case, scorer)


def weights_digest(folder: Path) -> str:
    """The first 12 digits of the SHA-256 over the UNet's weight files, to tell candidates apart."""
    digest = hashlib.sha256()
    for path in sorted((folder / "unet").glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]

"""What an evaluation compares: resizers, a weights folder's restorers, networks of others, ready-made results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image

from gendrpix.baselines.find import open_baseline
from gendrpix.baselines.restorer import NetworkRestorer
from gendrpix.comparison.comparison import SCORED, Record, check_truth, run_choice, run_restorer, score_image
from gendrpix.devices import describe_device
from gendrpix.image.read import open_picture
from gendrpix.image.resize import output_size, resize
from gendrpix.image.write import to_pil
from gendrpix.metrics.profiling import timed
from gendrpix.metrics.scorer import Scorer
from gendrpix.restore.cache import RestorerCache
from gendrpix.restore.guidance import Branches, mix
from gendrpix.settings.restoration import CompareSettings
from gendrpix.specs import CHOICE_LABELS, restorer_of
from gendrpix.weights.load import find_restorer_folder
from gendrpix.weights.verify import digest_weights
from training.evaluation.datasets import Case, EvaluationDataset, enumerated, named_pictures

Choice = Literal["bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*"]
CHOICES: tuple[str, ...] = get_args(Choice)
RESIZERS = {"bicubic": "Bicubic", "lanczos": "Lanczos"}
TRUTH = "truth"
DIGITS = 12
"""Of the SHA-256 over a restorer's files that a report shows."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the table: how it treats a case, and how a report names it."""

    name: str
    label: str
    run: Callable[[Case, Scorer], Record]
    """Restores, times and scores one case."""
    computes: bool = True
    """False for what is only read: the truth, ready-made results."""
    weights: str = ""
    """Digest of the network's weights, where there are any."""


def open_methods(
    choices: Sequence[str],
    *,
    guidance: Sequence[float],
    settings: CompareSettings,
    cache: RestorerCache,
    attention: Sequence[str] = (),
) -> list[Method]:
    """The methods in the order asked for, bicubic first in any case, "gendr-pix" once for every omega.

    attention: kinds of self-attention, an method for each where they are several; none is as loaded.
    Loads the weights, so that missing ones are said at once. Raises ValueError for an unknown or repeated choice.
    """
    unknown = [choice for choice in choices if choice not in CHOICES]
    if unknown:
        raise ValueError(f"Unknown restorer {unknown[0]!r}; expected some of {', '.join(CHOICES)}.")
    if "gendr-pix" in choices and not guidance:
        raise ValueError("gendr-pix needs --guidance OMEGA; give one or more, or ask for gendr-pix* alone.")
    methods = []
    for choice in dict.fromkeys(("bicubic", *choices)):
        if choice in RESIZERS:
            run = partial(run_resizer, choice, settings)
            methods.append(Method(name=choice, label=RESIZERS[choice], run=run))
            continue
        cache(choice)
        digest = digest_weights(find_restorer_folder(restorer_of(choice), cache.weights))[:DIGITS]
        omegas = tuple(dict.fromkeys(guidance)) if choice == "gendr-pix" else (None,)
        kinds = tuple(dict.fromkeys(attention)) or (None,)
        first = {
            kind: Restorer(choice, dataclasses.replace(settings, guidance=omegas[0]), cache, kind) for kind in kinds
        }
        for omega, kind in product(omegas, kinds):
            own = first[kind] if omega is None or omega == omegas[0] else Remix(first[kind], omega)
            name = f"{choice}@{omega:g}" if omega is not None and len(omegas) > 1 else choice
            label = CHOICE_LABELS[choice] + ("" if omega is None else f" (ω {omega:g})")
            methods.append(
                Method(
                    name=f"{name}/{kind}" if len(kinds) > 1 else name,
                    label=f"{label}, {kind}" if len(kinds) > 1 else label,
                    run=own,
                    weights=digest,
                )
            )
    return methods


class Restorer:
    """Runs one restorer; each picture size is warmed up when it first comes."""

    def __init__(
        self, choice: str, settings: CompareSettings, cache: RestorerCache, attention: str | None = None
    ) -> None:
        self.choice, self.settings, self.cache, self.attention = choice, settings, cache, attention
        self._warm_sizes: set[tuple[int, int]] = set()
        self._last: tuple[str, Record] | None = None

    def latest(self, case: Case) -> Record:
        """The record of a case, restored without scores where it was not the last one."""
        name, record = self._last or ("", None)
        return record if record is not None and name == case.name else self(case, Scorer(()))

    def __call__(self, case: Case, scorer: Scorer) -> Record:
        """The record of one case. Raises ValueError where the truth's size does not fit."""
        size = (case.photo.height, case.photo.width)
        height, width = output_size(*size, self.settings.scale)
        check_truth(case.truth, width, height)
        warmup = 0 if size in self._warm_sizes else self.settings.warmup
        self._warm_sizes.add(size)
        settings = dataclasses.replace(self.settings, warmup=warmup)
        pipeline = self.cache(self.choice)
        if self.attention is not None:  # each time: methods share the pipeline
            pipeline.set_attention(self.attention)
        record = run_choice(case.photo, self.choice, settings, pipeline, scorer, case.truth)
        self._last = (case.name, record)
        return record


class Remix:
    """PadCFG at a further omega, mixed from the branches that `first` has just computed; its time is theirs."""

    def __init__(self, first: Restorer, omega: float) -> None:
        self.first, self.omega = first, omega

    def __call__(self, case: Case, scorer: Scorer) -> Record:
        """The record of one case, equal to a run of its own."""
        record = self.first.latest(case)
        assert record.branches is not None
        dtype = getattr(torch, record.dtype)  # in which a run of its own would mix them
        restored = mix(Branches(*(branch.to(dtype) for branch in record.branches)), self.omega).clamp(-1, 1)
        settings = dataclasses.replace(record.settings, guidance=self.omega)
        mixed = ready_record(record.name, record.label, to_pil(restored), settings, case, scorer)
        measured = {key: getattr(record, key) for key in ("seconds", "all_seconds", "peak", "device", "dtype")}
        return dataclasses.replace(mixed, branches=record.branches, **measured)


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


def truth_method(settings: CompareSettings) -> Method:
    """The truth itself under the metrics that need none: what the others' figures are read against."""

    def run(case: Case, scorer: Scorer) -> Record:
        assert case.truth is not None
        return ready_record(TRUTH, "Truth", to_pil(case.truth.color), settings, _without_truth(case), scorer)

    return Method(name=TRUTH, label="Truth", run=run, computes=False)


def _without_truth(case: Case) -> Case:
    return dataclasses.replace(case, truth=None)


def baseline_methods(words: Sequence[str], settings: CompareSettings, device: torch.device) -> list[Method]:
    """Methods for NAME=PLACE, networks of others by file or name, loaded now and timed as the restorers are.

    Raises ValueError for a malformed word, a taken name or a network that cannot be loaded.
    """
    methods = []
    for name, place in split_words("--baselines", words, taken_names()):
        network = open_baseline(place, device)
        run = partial(_run_baseline, name, network, settings)
        methods.append(Method(name=name, label=name, run=run, weights=network.digest[:DIGITS]))
    return methods


def _run_baseline(name: str, network: NetworkRestorer, settings: CompareSettings, case: Case, scorer: Scorer) -> Record:
    record = run_restorer(case.photo, network, settings, scorer, case.truth)
    return dataclasses.replace(record, name=name, label=name)


def taken_names() -> set[str]:
    """Names in lower case that results of others may not have."""
    return {name.casefold() for name in (TRUTH, *CHOICES, *RESIZERS.values(), *CHOICE_LABELS.values())}


def split_words(option: str, words: Sequence[str], taken: set[str]) -> Iterator[tuple[str, str]]:
    """NAME=PLACE => (name, place); each name is added to `taken`. Raises ValueError for others, and taken names."""
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise ValueError(f"{option} got {word!r}; expected NAME=PLACE, a name and a path.")
        if name.casefold() in taken:
            raise ValueError(f"{option} got the name {name!r}, which is taken; choose another.")
        taken.add(name.casefold())
        yield name, place


def output_methods(
    words: Sequence[str],
    dataset: EvaluationDataset,
    settings: CompareSettings,
    *,
    common: bool = False,
    others: Sequence[Method] = (),
) -> tuple[list[Method], EvaluationDataset]:
    """Methods for NAME=FOLDER, folders of ready-made results named as the cases are, and the cases they all have.

    others: methods whose names are taken as well.
    Raises ValueError for a malformed word, a taken name, and missing results unless `common` restricts the set.
    """
    methods: list[Method] = []
    taken = taken_names() | {other.name.casefold() for other in others}
    for name, place in split_words("--outputs", words, taken):
        files = named_pictures(Path(place))
        missing = [case for case in dataset.loaders if case not in files]
        if len(missing) == len(dataset):
            raise ValueError(f"{place} has no picture of {dataset.label}; name the results as the inputs are named.")
        if missing and not common:
            raise ValueError(
                f"{name} lacks {len(missing)} of {len(dataset)} results ({enumerated(missing)}); "
                "add them, or pass --common to use only pictures that all have."
            )
        dataset = dataset.only(files)
        methods.append(Method(name=name, label=name, run=partial(_score_file, name, files, settings), computes=False))
    if not len(dataset):
        raise ValueError("The folders of --outputs have no picture in common; evaluate them one by one.")
    return methods, dataset


def _score_file(name: str, files: dict[str, Path], settings: CompareSettings, case: Case, scorer: Scorer) -> Record:
    color = open_picture(files[case.name]).color
    expected = output_size(case.photo.height, case.photo.width, settings.scale)
    check_result_size(name, files[case.name].name, color.shape[-2:], expected, settings.scale)
    return ready_record(name, name, to_pil(color), settings, case, scorer)


def check_result_size(name: str, file: str, size: Sequence[int], expected: Sequence[int], scale: float) -> None:
    """Raise ValueError unless a result of others, (height, width), has the size that the evaluation asks for."""
    if tuple(size) != tuple(expected):
        raise ValueError(
            f"{name}'s result {file} has {size[1]} x {size[0]} pixels; "
            f"expected {expected[1]} x {expected[0]}, {scale:g} times its input."
        )

"""What an evaluation runs on: degraded ground truths, pairs, or photos without a truth, in the order of their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gendrpix.comparison.degrade import crop_clean
from gendrpix.errors import PictureError
from gendrpix.image.picture import Picture
from gendrpix.image.read import find_pictures, open_picture
from gendrpix.image.resize import output_size
from training.data.degradation import apply, draw, sample_rng
from training.data.degradation_presets import find_preset
from training.data.degradation_ranges import Preset
from training.data.photos import PhotoFolder

NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture to restore. Alpha channels are dropped: they are no part of what is measured."""

    name: str
    """The file's name without its suffix."""
    photo: Picture
    """The low-quality picture, before it is enlarged."""
    truth: Picture | None = None
    """The picture as it should be, `scale` times as large."""
    plan: str = ""
    """What was done to the truth; empty where nothing is known."""


@dataclass(frozen=True, kw_only=True)
class EvaluationDataset:
    """A set of cases, opened one at a time."""

    label: str
    """What a report calls the set, without paths."""
    scale: int
    loaders: dict[str, Callable[[], Case]]
    """Name => what opens it, sorted by name."""
    has_truth: bool

    def __len__(self) -> int:
        return len(self.loaders)

    def __iter__(self) -> Iterator[Case]:
        return (load() for load in self.loaders.values())

    def open(self, name: str) -> Case:
        """The case of that name."""
        return self.loaders[name]()

    def spread(self, count: int) -> EvaluationDataset:
        """`count` of them, evenly spread over the sorted names; all for 0. A case stays what it is in any subset."""
        total = len(self)
        if count < 0:
            raise ValueError(f"The number of pictures is {count}; expected 0 for all, or more.")
        if count in (0, total) or count > total:
            return self
        names = list(self.loaders)
        return self.only({names[i * total // count] for i in range(count)})

    def only(self, names: Collection[str]) -> EvaluationDataset:
        """Those with one of the names, in order."""
        kept = {name: load for name, load in self.loaders.items() if name in names}
        return dataclasses.replace(self, loaders=kept)


@dataclass(frozen=True, kw_only=True)
class Degrading:
    """How ground truths become cases: picture i gets the degradation that belongs to (seed, i), rounded to 8 bits."""

    degradation: str
    seed: int = 0
    scale: int = 4
    most_px: int = 0
    """Take the middle of each truth, at most that many pixels a side; 0 takes the whole. Either way its sides are
    cropped to multiples of `scale`."""


def degraded_dataset(folder: Path, how: Degrading) -> EvaluationDataset:
    """The ground truths of a folder, by name. Raises ValueError for an unknown preset or a scale below 1."""
    return degraded_pictures(list(named_pictures(folder).values()), folder.resolve().name, how)


def held_out_dataset(folder: Path, how: Degrading, *, shortest_px: int = 64) -> EvaluationDataset:
    """The photos of a training folder that training holds out, as `degraded_dataset`."""
    photos = PhotoFolder(folder, shortest_px=shortest_px, memory_bytes=0, part="held-out")
    return degraded_pictures(photos.paths, "held-out photos", how)


def degraded_pictures(paths: Sequence[Path], label: str, how: Degrading) -> EvaluationDataset:
    """`degraded_dataset` of given files, whose names without suffix must differ."""
    preset, scale = find_preset(how.degradation), how.scale
    if scale < 1:
        raise ValueError(f"scale is {scale}; expected a whole number of at least 1.")
    loaders: dict[str, Callable[[], Case]] = {
        path.stem: partial(_degraded, path, preset, index, how) for index, path in enumerate(paths)
    }
    if len(loaders) < len(paths):
        raise ValueError(f"Some pictures of {label} share a name; rename one of each pair.")
    part = f", the middle {how.most_px} px" if how.most_px else ""
    label = f"{label}{part}, degraded x{scale} ({how.degradation}, seed {how.seed})"
    return EvaluationDataset(label=label, scale=scale, loaders=loaders, has_truth=True)


def _degraded(path: Path, preset: Preset, index: int, how: Degrading) -> Case:
    color, scale = open_picture(path).color, how.scale
    if how.most_px:
        color = crop_clean(color, scale, how.most_px)
    height, width = (side - side % scale for side in color.shape[-2:])
    if min(height, width) < scale:
        raise PictureError(f"{path.name} is smaller than {scale} pixels; take it out of the folder.")
    truth = color[..., :height, :width].contiguous()
    plan = draw(preset, sample_rng(how.seed, index), scale)
    return Case(
        name=path.stem, photo=Picture(color=apply(plan, truth)), truth=Picture(color=truth), plan=plan.describe()
    )


def paired_dataset(folder: Path, *, scale: int = 4) -> EvaluationDataset:
    """Pairs from `folder`/lq and `folder`/hq with the same names, suffixes aside.

    Raises ValueError for names that stand on one side only. A pair whose sizes do not fit `scale` is refused when
    it is opened.
    """
    sides = {}
    for side in ("lq", "hq"):
        if not (folder / side).is_dir():
            raise ValueError(f"{folder} has no folder {side}; pairs lie in lq (inputs) and hq (ground truths).")
        sides[side] = named_pictures(folder / side)
    for one, other in (("lq", "hq"), ("hq", "lq")):
        alone = [name for name in sides[one] if name not in sides[other]]
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(sides[one])} pictures in {one} have no partner in {other}: {enumerated(alone)}; "
                "give both the same name."
            )
    loaders: dict[str, Callable[[], Case]] = {
        name: partial(_pair, path, sides["hq"][name], scale) for name, path in sides["lq"].items()
    }
    return EvaluationDataset(
        label=f"{folder.resolve().name}, pairs x{scale}", scale=scale, loaders=loaders, has_truth=True
    )


def _pair(lq_path: Path, hq_path: Path, scale: int) -> Case:
    photo, truth = (Picture(color=open_picture(path).color) for path in (lq_path, hq_path))
    height, width = output_size(photo.height, photo.width, scale)
    if (truth.height, truth.width) != (height, width):
        raise ValueError(
            f"The pair {lq_path.stem} has an input of {photo.width} x {photo.height} and a truth of "
            f"{truth.width} x {truth.height} pixels; at scale {scale} the truth must have {width} x {height}."
        )
    return Case(name=lq_path.stem, photo=photo, truth=truth)


def photo_dataset(folder: Path, *, scale: int = 4) -> EvaluationDataset:
    """Real pictures without a truth: only metrics that need none."""
    loaders: dict[str, Callable[[], Case]] = {
        name: partial(_photo, path) for name, path in named_pictures(folder).items()
    }
    return EvaluationDataset(
        label=f"{folder.resolve().name}, x{scale}, without truth", scale=scale, loaders=loaders, has_truth=False
    )


def _photo(path: Path) -> Case:
    return Case(name=path.stem, photo=Picture(color=open_picture(path).color))


def named_pictures(folder: Path) -> dict[str, Path]:
    """Name without suffix => file, sorted. Raises ValueError for no folder, no pictures, or a name taken twice."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give a folder of pictures.")
    named: dict[str, Path] = {}
    for path in find_pictures([folder]):
        if path.stem in named:
            raise ValueError(
                f"{folder} holds {named[path.stem].name} and {path.name}, which have one name; rename one of them."
            )
        named[path.stem] = path
    return named


def enumerated(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(list(names)[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown

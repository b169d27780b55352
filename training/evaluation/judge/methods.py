"""Whom `judge` compares: bicubic, restorers of several weight folders, networks of others, ready-made results.

Networks of others can take minutes a photo. Their results are kept as PNG files, named by the photo and by digests of
its pixels and of the network's files, so that each is computed once. A file gets its name when it is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from gendrpix.baselines.ncnn_files import NcnnNetwork
from gendrpix.comparison.comparison import SCORED, Compared
from gendrpix.devices import pick_device, pick_dtype
from gendrpix.files import make_folder, remove_stale_parts
from gendrpix.image.read import open_picture
from gendrpix.image.resize import output_size
from gendrpix.image.write import save_png, to_array, to_pil
from gendrpix.metrics.profiling import Runs
from gendrpix.metrics.scorer import Scorer
from gendrpix.models.tiling import restore_tiled
from gendrpix.restore.cache import RestorerCache
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import UNGUIDED
from training.evaluation.datasets import Case, EvaluationDataset
from training.evaluation.methods import (
    CHOICES,
    DIGITS,
    Method,
    check_result_size,
    open_methods,
    output_methods,
    ready_result,
    split_words,
    taken_names,
)

if TYPE_CHECKING:
    from training.evaluation.judge.config import JudgeConfig

TILE_PX = 512
"""Side of a tile for networks of others, in pixels of the result. Real-ESRGAN x4plus takes about 130 kB for each pixel
of a tile's input: 2 GB for 128 x 128."""
OVERLAP_PX = 96
"""Pixels of the result that neighbouring tiles share."""
PROBE_PX = 16
"""Side of the picture on which a network's factor is tried."""


def make_methods(config: JudgeConfig, dataset: EvaluationDataset) -> tuple[list[Method], EvaluationDataset]:
    """Everybody, weights loaded, and the photos: with `ready_only` those whose slow results are at hand.

    Raises ValueError for names that are taken, weights or networks that cannot be loaded, and missing results.
    """
    settings = RestoreSettings(scale=config.scale, guidance=config.guidance)
    taken = taken_names()
    own = own_methods(config, settings, taken)
    runs = cached_networks(config, settings, taken)
    networks = [Method(name=run.name, label=run.name, run=run) for run in runs]
    peers, dataset = output_methods(
        config.outputs, dataset, settings, common=config.ready_only, others=[*own, *networks]
    )
    if config.ready_only:
        dataset = dataset.only([case.name for case in dataset if all(run.has(case) for run in runs)])
        if not len(dataset):
            raise ValueError(f"No photo has all its results in {config.cache} yet; leave out --ready-only.")
    elif runs:
        fill(runs, dataset)
    return [*own, *networks, *peers], dataset


def own_methods(config: JudgeConfig, settings: RestoreSettings, taken: set[str]) -> list[Method]:
    """Bicubic, and a method for each NAME=FOLDER[:RESTORER]."""
    device, dtype = pick_device(config.device), pick_dtype(config.dtype)
    methods = open_methods((), guidance=(), settings=settings, cache=RestorerCache(device=device), runs=Runs(warmup=0))
    for name, place in split_words("--weights", config.weights, taken):
        folder, choice = split_restorer(place)
        cache = RestorerCache(folder, device=device, dtype=dtype)
        method = open_methods(
            (choice,), guidance=(config.guidance,), settings=settings, cache=cache, runs=Runs(warmup=0)
        )[-1]
        methods.append(dataclasses.replace(method, name=name, label=name))
    return methods


def split_restorer(place: str) -> tuple[str, str]:
    """FOLDER[:RESTORER] => (folder, restorer); GenDR-Pix* where none is given. Raises ValueError for an unknown one.

    What follows the last colon is a restorer only where it names no part of a path, such as in C:/weights.
    """
    folder, colon, choice = place.rpartition(":")
    if not colon or "/" in choice or "\\" in choice:
        return place, UNGUIDED
    known = [each for each in CHOICES if each.startswith("gendr")]
    if choice not in known:
        raise ValueError(f"--weights got the restorer {choice!r}; expected one of {', '.join(known)}.")
    return folder, choice


def cached_networks(config: JudgeConfig, settings: RestoreSettings, taken: set[str]) -> list[CachedNetwork]:
    """The network of each NAME=MODEL.param; its results are kept in a folder of its own within the cache."""
    return [
        CachedNetwork(name, Path(place), config.cache, settings)
        for name, place in split_words("--ncnn", config.ncnn, taken)
    ]


class CachedNetwork:
    """A network of others, as a method runs it: in tiles, each photo once."""

    def __init__(self, name: str, param: Path, cache: Path, settings: RestoreSettings) -> None:
        """Load the network and make its folder. Raises ValueError where it does not enlarge by the scale asked for."""
        self.name, self.settings = name, settings
        self._network, self._scale = NcnnNetwork(param), int(settings.scale or 1)
        probe = self._network(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
        if probe.shape[-2:] != (PROBE_PX * self._scale,) * 2:
            raise ValueError(
                f"{param.name} makes {probe.shape[-1]} x {probe.shape[-2]} pixels of {PROBE_PX} x {PROBE_PX}; "
                f"expected {self._scale} times as many a side. Pass another network or --scale."
            )
        self.folder = cache / f"{param.stem}-{digest_files((param, param.with_suffix('.bin')))[:DIGITS]}"
        make_folder(self.folder)
        remove_stale_parts(self.folder)

    def __call__(self, case: Case, scorer: Scorer) -> Compared:
        """The result of one case."""
        return ready_result(self.name, self.name, self.picture(case), self.settings, case, scorer)

    def has(self, case: Case) -> bool:
        """Whether the case's result is kept already."""
        return self._place(case).is_file()

    def picture(self, case: Case) -> Image.Image:
        """The case's result, 8 bits, read or computed and kept. Raises ValueError for a kept one of another size."""
        place = self._place(case)
        if not place.is_file():
            save_png(to_pil(self._restore(case.photo.color)), place, overwrite=True)
        color = open_picture(place, SCORED).color
        expected = output_size(case.photo.height, case.photo.width, self._scale)
        check_result_size(self.name, place.name, color.shape[-2:], expected, self._scale)
        return to_pil(color)

    def _place(self, case: Case) -> Path:
        return self.folder / f"{case.name}-{digest_pixels(case.photo.color)[:DIGITS]}.png"

    def _restore(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] => (1, 3, s H, s W), in tiles whose sides are counted in the result's pixels."""
        return restore_tiled(pixels, self._network, TILE_PX, OVERLAP_PX, read_px=self._scale)


def fill(networks: Sequence[CachedNetwork], dataset: EvaluationDataset) -> None:
    """Compute what the cache lacks, small photos first, so that most can be looked at soon."""
    sizes = {case.name: case.photo.height * case.photo.width for case in dataset}
    for name in tqdm(sorted(sizes, key=lambda one: (sizes[one], one)), desc="networks of others", disable=None):
        case = dataset.open(name)
        for network in networks:
            network.picture(case)


def digest_pixels(pixels: Tensor) -> str:
    """SHA-256 of a photo's size and pixels in 16 bits: the same however its file is named or packed."""
    array = to_array(pixels, bits=16)
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


def digest_files(files: Sequence[Path]) -> str:
    """SHA-256 of the contents of files, one after the other."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()

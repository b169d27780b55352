"""The settings of the tool `judge`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendrpix.metrics.registry import METRICS
from gendrpix.specs import DEFAULT_OMEGA


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Which photos, whose results, and where pages and pairs go; or, with `count`, which votes."""

    out: Path
    """Folder for README.md, judge.csv, judge.json, sheets, pairs of votes and their keys; for votes.md with count."""
    photos: Path | None = None
    """Folder of real pictures without a truth."""
    weights: tuple[str, ...] = ("pix=mini",)
    """NAME=FOLDER[:RESTORER], weights of ours: a bundled family or a folder, and gendr, gendr-adc, gendr-pix or
    gendr-pix* (the default, without guidance)."""
    ncnn: tuple[str, ...] = ()
    """NAME=MODEL.param, networks of others in ncnn's format with MODEL.bin beside; run here, on the CPU, in tiles."""
    outputs: tuple[str, ...] = ()
    """NAME=FOLDER of ready-made results, named as the inputs."""
    reference: str = "x4plus"
    """Whose results are the reference of noise and distance: the name of one of the methods."""
    cache: Path = Path("runs/judge/cache")
    """Folder where results of --ncnn are kept: each is computed once."""
    ready_only: bool = False
    """Use only the photos whose results are all at hand, in the cache and in the folders of outputs."""
    groups: Path | None = None
    """CSV file with the columns name and group, such as faces and text: figures and votes are reported by group too."""
    vote: tuple[str, ...] = ()
    """OURS=OTHER, names of two methods: writes the pairs of a vote, one crop of 256 pixels a photo."""
    seed: int = 0
    """Of the places of the crops, which depend on the photos' names and sizes alone, and of the order of the pairs."""
    scale: int = 4
    guidance: float = DEFAULT_OMEGA
    """PadCFG's omega for gendr-pix."""
    metrics: tuple[str, ...] = ("grid", "niqe", "piqe")
    """Reported beside noise and distance; NIQE and PIQE decide nothing."""
    crop_px: int = 256
    """Side of the crops on the page, in pixels of the result; at most 256."""
    picture_kb: int = 2000
    """What all pictures of the page may weigh together."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    count: tuple[Path, ...] = ()
    """KEY.json VOTES.csv...: count these votes instead. At least three voters."""
    overwrite: bool = False
    """Replace earlier files in the same folder, the pairs of a vote included."""

    def __post_init__(self) -> None:
        if (self.photos is None) == (not self.count):
            got = "neither" if self.photos is None else "both"
            raise ValueError(f"Expected either --photos FOLDER or --count KEY.json VOTES.csv...; got {got}.")
        if not 32 <= self.crop_px <= 256 or self.picture_kb < 1:
            raise ValueError(
                f"crop_px is {self.crop_px} and picture_kb {self.picture_kb}; expected 32 to 256, and at least 1."
            )
        needing = [name for name in self.metrics if name in METRICS and METRICS[name].needs_truth]
        if needing:
            raise ValueError(f"--metrics {needing[0]} needs a truth, which these photos have not; leave it out.")

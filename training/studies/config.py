"""The settings of a survey."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendrpix.metrics.registry import BUNDLED_LPIPS_NET, LpipsNet
from gendrpix.specs import NEG_PAD, POS_PAD, Offset
from training.data.degradation_presets import find_preset
from training.evaluation.methods import Choice


@dataclass(frozen=True, kw_only=True)
class SurveyConfig:
    """On which sets, who, and where the page goes. At least one set is needed."""

    out: Path
    """Folder of the page: README.md and a WebP picture for each set. Earlier ones there are replaced."""
    work: Path
    """Folder of the evaluations, one for each set, with every figure as CSV and JSON."""
    truths: tuple[Path, ...] = ()
    """Folders of ground truths, each evaluated under every degradation."""
    degradations: tuple[str, ...] = ("bicubic", "photo")
    pairs: tuple[Path, ...] = ()
    """Folders with lq and hq. Time and memory are measured on these."""
    photos: tuple[Path, ...] = ()
    """Folders of real pictures without a truth."""
    outputs: tuple[str, ...] = ()
    """NAME=FOLDER of ready-made results of the pairs or photos. Where it has only some of a set's pictures, they are
    compared on those, as a set of their own."""
    baselines: tuple[str, ...] = ()
    """NAME=PLACE, networks of others by file or name, run and timed here."""
    scale: int = 4
    seed: int = 0
    """Of the degradations."""
    pictures: int = 0
    """Use that many of each set, evenly spread over the sorted names; 0 uses all."""
    restorers: tuple[Choice, ...] = ("bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*")
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    guidance: tuple[float, ...] = (1.0, 1.25, 1.5)
    """PadCFG's omega for gendr-pix, a line each."""
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips", "niqe", "piqe", "grid")
    lpips_net: LpipsNet = BUNDLED_LPIPS_NET
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    crops: int = 4
    """Pictures shown of each set, half of them the worst."""
    crop_px: int = 104
    """Side of the crops, in pixels of the result; shown enlarged a whole number of times to about 256 pixels."""
    picture_kb: int = 1100
    """What all pictures of the page may weigh together."""

    def __post_init__(self) -> None:
        if not (self.truths or self.pairs or self.photos):
            raise ValueError("There is nothing to evaluate; give at least one of --truths, --pairs and --photos.")
        if self.truths and not self.degradations:
            raise ValueError("--truths need --degradations; give at least one, bicubic for instance.")
        for degradation in self.degradations:
            find_preset(degradation)
        if self.crops < 1 or self.picture_kb < 1:
            raise ValueError(
                f"crops is {self.crops} and picture_kb {self.picture_kb}; expected at least 1, and at least 1."
            )

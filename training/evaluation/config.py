"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gendrpix.metrics.registry import BUNDLED_LPIPS_NET, METRICS, LpipsNet
from gendrpix.models.attention import AttentionKind
from gendrpix.specs import COMPARED_OMEGA, NEG_PAD, POS_PAD, Offset
from training.evaluation.methods import Choice

SOURCES = ("truths", "held_out", "pairs", "photos")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated, on what, and where the tables go. Give exactly one of truths, held_out, pairs and photos."""

    out: Path
    """Folder for scores.csv (a line a picture), scores.json, scores.md, intervals.png and crops.png."""
    truths: Path | None = None
    """Folder of ground truths, which are degraded here."""
    held_out: Path | None = None
    """Folder of training photos, of which those are taken that training with it holds out; degraded here."""
    pairs: Path | None = None
    """Folder with lq and hq, which hold inputs and ground truths of the same names."""
    photos: Path | None = None
    """Folder of real pictures without a truth."""
    degradation: str = "bicubic"
    """For truths and held-out photos: "bicubic" (clean), "mild", "photo", "camera", "adcsr" or "real-esrgan"."""
    seed: int = 0
    """For truths and held-out photos: seed of the degradation."""
    most_px: int = 0
    """For truths and held-out photos: take their middle, at most that many pixels a side; 0 takes the whole."""
    scale: int = 4
    """How many times larger the results are."""
    pictures: int = 0
    """Use that many, evenly spread over the sorted names; 0 uses all."""
    restorers: tuple[Choice, ...] = ("bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*")
    """Which; bicubic and, where there is one, the truth are always shown. gendr-pix* is gendr-pix without guidance."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    guidance: tuple[float, ...] = (COMPARED_OMEGA,)
    """PadCFG's omega for gendr-pix; several give a line each."""
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    plain_cfg: bool = False
    """Guide without offsets."""
    attention: tuple[AttentionKind, ...] = ()
    """Kinds of self-attention; several give a line each, RESTORER/KIND. None is as loaded, auto."""
    outputs: tuple[str, ...] = ()
    """NAME=FOLDER of ready-made results, named as the inputs are: published ones, or another program's."""
    baselines: tuple[str, ...] = ()
    """NAME=PLACE, networks of others, run and timed here: a .safetensors, .pth, .param or .onnx file, or the name of
    one in GENDRPIX_BASELINES."""
    common: bool = False
    """Use only the pictures that every folder of outputs has."""
    metrics: tuple[str, ...] = tuple(METRICS)
    """Which metrics; those whose weights cannot be had are left out with the reason."""
    lpips_net: LpipsNet = BUNDLED_LPIPS_NET
    """LPIPS's trunk."""
    against: str = ""
    """Whom the paired differences are taken to; gendr where it is evaluated, else bicubic."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    repeats: int = 1
    """Counted runs of each restorer on each picture; the time is their median. Each size is warmed up once."""
    timing: bool = True
    """Show time and memory. Without, nothing is warmed up: half the work where pictures are of many sizes."""
    reconstruction: bool = True
    """Also score the autoencoder alone on the truths, where a restorer that uses it takes part."""
    crops: int = 6
    """Pictures on the sheet of crops, half of them the worst; 0 makes no sheet."""
    crop_px: int = 128
    """Side of the crops, in pixels of the result; shown enlarged a whole number of times to about 256 pixels."""
    crop_columns: int = 0
    """Crops side by side, the others below them; 0 puts all of a picture into one row."""
    save_results: bool = False
    """Keep every result as PNG in out/results/NAME."""
    overwrite: bool = False
    """Replace an earlier evaluation in the same folder."""

    def __post_init__(self) -> None:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            *first, last = (f"--{name.replace('_', '-')}" for name in SOURCES)
            got = " and ".join(given) or "none"
            raise ValueError(f"Expected exactly one of {', '.join(first)} and {last}; got {got}.")
        if self.most_px < 0:
            raise ValueError(f"most_px is {self.most_px}; expected 0 for whole pictures, or more.")
        if self.crops < 0 or self.crop_px < 8 or self.crop_columns < 0:
            raise ValueError(
                f"crops is {self.crops}, crop_px {self.crop_px} and crop_columns {self.crop_columns}; expected at "
                "least 0, 8 and 0."
            )

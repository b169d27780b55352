"""`python -m training offsets`: PadCFG's offsets for given weights, from the patterns that their branches leave.

Each picture is restored once by either branch, unpadded; all 64 differences of the offsets follow from that
(`gendrpix.metrics.offsets`). A few are measured too, to show how far the prediction holds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendrpix.devices import pick_device, pick_dtype
from gendrpix.files import write_text
from gendrpix.metrics.offsets import mean_pattern, negative_offset, offset_difference, pattern_levels, predict_pattern
from gendrpix.restore.guidance import mix
from gendrpix.restore.pipelines import RestorerPipeline, load_restorer
from gendrpix.specs import NEG_PAD, PATCH, POS_PAD, Offset
from training.evaluation.datasets import Degrading, EvaluationDataset, degraded_dataset
from training.tools.offset_choice import Choice, choose_offsets, unet_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OffsetsConfig:
    """Which weights, on which pictures, and how much is measured."""

    weights: str
    """A bundled family, a folder or a hub id."""
    photos: Path
    """Folder of pictures, which are degraded here."""
    out: Path = Path()
    """File for the figures, in JSON; `bundle` looks for RUNS/offsets.json. Without it they are printed alone."""
    omega: float = 1.5
    """Guidance for which the offsets are chosen."""
    pictures: int = 24
    """Use that many, evenly spread over the sorted names; 0 uses all."""
    most_px: int = 512
    """Take the middle of each picture, at most that many pixels a side; 0 takes the whole."""
    degradation: str = "bicubic"
    scale: int = 4
    measured: int = 6
    """Differences that are measured beside: plain guidance's, the paper's, the best and the worst, then others."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    overwrite: bool = False
    """Replace an earlier file."""


def offsets(config: OffsetsConfig) -> Path:
    """Measure, choose, print, and save where a file is named; returns it, or the folder of the pictures."""
    if config.out != Path() and config.out.exists() and not config.overwrite:
        raise ValueError(f"{config.out} exists already; pass another --out or --overwrite.")
    device = pick_device(config.device)
    pipeline = load_restorer("gendr-pix", config.weights, device=device, dtype=pick_dtype("float32"))
    how = Degrading(degradation=config.degradation, scale=config.scale, most_px=config.most_px)
    cases = degraded_dataset(config.photos, how).spread(config.pictures)
    positive, negative, counts = measure_branches(pipeline, cases)
    choice = choose_offsets(positive, negative, counts, config.omega)
    shares = counts.double() / counts.sum()
    means = [torch.einsum("n,ncij->cij", shares, one) for one in (positive, negative)]
    compared = []
    for difference in tqdm(pick_differences(choice, config.measured), desc="offsets: measured", mininterval=10):
        pattern = measure_mixture(pipeline, cases, config.omega, negative_offset(POS_PAD, difference))
        predicted = predict_pattern(means[0], means[1], config.omega, POS_PAD, negative_offset(POS_PAD, difference))
        correlation = torch.corrcoef(torch.stack([pattern.flatten(), predicted.flatten()]))[0, 1]
        compared.append((difference, float(pattern_levels(pattern)), float(correlation)))
    print_choice(choice, compared, config.omega)
    if config.out == Path():
        return config.photos
    write_text(config.out, json.dumps(to_document(config, pipeline, cases, choice, compared), indent=2) + "\n")
    return config.out


def measure_branches(pipeline: RestorerPipeline, cases: EvaluationDataset) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 3, 8, 8) float64 mean patterns of each picture's unpadded branches, positive and negative; (N,) patches."""
    patterns: tuple[list[Tensor], list[Tensor]] = ([], [])
    counts = []
    for case in tqdm(cases, total=len(cases), desc="offsets: branches", mininterval=10):
        x = pipeline.prepare(case.photo, float(cases.scale))
        for branch, found in zip(pipeline.restore_branches(x, plain_cfg=True, batched=False), patterns, strict=True):
            found.append(mean_pattern(branch, x).cpu())
        counts.append(x.shape[-2] // PATCH * (x.shape[-1] // PATCH))
    return torch.stack(patterns[0]), torch.stack(patterns[1]), torch.tensor(counts)


def measure_mixture(pipeline: RestorerPipeline, cases: EvaluationDataset, omega: float, neg_pad: Offset) -> Tensor:
    """(3, 8, 8) float64: the mean pattern of what PadCFG gives at the paper's p_pos and that p_neg."""
    total, patches = torch.zeros(3, PATCH, PATCH, dtype=torch.float64), 0
    for case in cases:
        x = pipeline.prepare(case.photo, float(cases.scale))
        restored = mix(pipeline.restore_branches(x, pos_pad=POS_PAD, neg_pad=neg_pad, batched=False), omega)
        count = x.shape[-2] // PATCH * (x.shape[-1] // PATCH)
        total += count * mean_pattern(restored, x).cpu()
        patches += count
    return total / patches


def pick_differences(choice: Choice, count: int) -> list[Offset]:
    """Plain guidance's, the paper's, the best and the worst difference, then others evenly over the order of levels."""
    order = [divmod(int(place), PATCH) for place in choice.levels.flatten().argsort()]
    named = [(0, 0), offset_difference(POS_PAD, NEG_PAD), order[0], order[-1]]
    others = [order[(number + 1) * len(order) // (count + 1)] for number in range(count)]
    return list(dict.fromkeys([*named, *others]))[:count]


def print_choice(choice: Choice, compared: Sequence[tuple[Offset, float, float]], omega: float) -> None:
    """Print the 64 predictions, the measured ones beside theirs, and the choice."""
    told = [f"pattern left at omega {omega:g}, 8-bit levels rms, by p_pos - p_neg (rows down, columns across):"]
    told += ["  ".join(f"{float(level):.3f}" for level in row) for row in choice.levels]
    told += ["difference  predicted [95% interval]    measured  correlation"]
    for (row, column), level, correlation in compared:
        ends = f"[{float(choice.low[row, column]):.3f}, {float(choice.high[row, column]):.3f}]"
        told.append(
            f"({row}, {column})      {float(choice.levels[row, column]):.3f} {ends:16}  {level:.3f}  {correlation:.3f}"
        )
    gain, low, high = choice.gain
    pos_pad, neg_pad = choice.offsets
    told.append(f"the best, {choice.best}, beats the paper's by {gain:.3f} levels [{low:.3f}, {high:.3f}]")
    kept = "the best is taken" if choice.beats_paper else "the paper's stay: the interval holds 0"
    told.append(f"{kept}: pos_pad {pos_pad}, neg_pad {neg_pad}")
    for line in told:
        logger.info("%s", line)


def to_document(
    config: OffsetsConfig,
    pipeline: RestorerPipeline,
    cases: EvaluationDataset,
    choice: Choice,
    compared: Sequence[tuple[Offset, float, float]],
) -> dict[str, Any]:
    """All figures, as the file keeps them."""
    pos_pad, neg_pad = choice.offsets
    return {
        "weights": unet_digest(pipeline),
        "pictures": len(cases),
        "set": cases.label,
        "omega": config.omega,
        "predicted": choice.levels.tolist(),
        "low": choice.low.tolist(),
        "high": choice.high.tolist(),
        "measured": [
            {"difference": difference, "levels": level, "correlation": correlation}
            for difference, level, correlation in compared
        ],
        "best": choice.best,
        "gain": choice.gain,
        "chosen": {"pos_pad": pos_pad, "neg_pad": neg_pad},
    }

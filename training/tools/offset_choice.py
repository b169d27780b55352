"""The choice of PadCFG's offsets from measured patterns, its file, and how it becomes the weights' default."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendrpix.metrics.offsets import negative_offset, offset_difference, predicted_levels
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.specs import NEG_PAD, PATCH, POS_PAD, Offset

OFFSETS = "offsets.json"
"""Name of the file in a folder of runs."""
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Predicted patterns of all differences, and what follows from them. Levels are 8-bit ones, root mean squares."""

    levels: Tensor
    """(8, 8), by p_pos - p_neg."""
    low: Tensor
    """(8, 8), lower ends of the 95% intervals over pictures."""
    high: Tensor
    best: Offset
    """The difference of the smallest pattern."""
    gain: tuple[float, float, float]
    """By how many levels the best's pattern is smaller than the paper's: the mean, and the interval's two ends."""

    @property
    def beats_paper(self) -> bool:
        """Whether the whole interval of the gain is above 0."""
        return self.gain[1] > 0

    @property
    def offsets(self) -> tuple[Offset, Offset]:
        """The offsets to use: the best's where it beats the paper's by more than the interval, else the paper's."""
        return (POS_PAD, negative_offset(POS_PAD, self.best)) if self.beats_paper else (POS_PAD, NEG_PAD)


def choose_offsets(positive: Tensor, negative: Tensor, counts: Tensor, omega: float, seed: int = 0) -> Choice:
    """The best difference and its gain, with percentile bootstrap intervals over pictures (Efron 1979).

    positive, negative: (N, 3, 8, 8) mean patterns of each picture's branches; counts: (N,) patches of each picture.
    Raises ValueError for fewer than two pictures.
    """
    number = len(counts)
    if number < 2:
        raise ValueError(f"Got {number} picture(s); an interval needs two or more.")
    weights = counts.double() / counts.sum()
    levels = predicted_levels(_mean(positive, weights), _mean(negative, weights), omega)
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(rng.multinomial(number, [1 / number] * number, size=RESAMPLES)).double()
    shares = drawn * counts.double()
    shares = shares / shares.sum(1, keepdim=True)
    draws = [torch.einsum("rn,ncij->rcij", shares, one) for one in (positive, negative)]
    resampled = predicted_levels(draws[0], draws[1], omega)
    tail = (1 - CONFIDENCE) / 2
    low, high = (resampled.quantile(share, dim=0) for share in (tail, 1 - tail))
    best = divmod(int(levels.flatten().argmin()), PATCH)
    paper = offset_difference(POS_PAD, NEG_PAD)
    gains = resampled[:, paper[0], paper[1]] - resampled[:, best[0], best[1]]
    ends = (float(gains.quantile(share)) for share in (tail, 1 - tail))
    gain = (float(levels[paper] - levels[best]), *ends)
    return Choice(levels=levels, low=low, high=high, best=best, gain=gain)  # type: ignore[arg-type]


def _mean(patterns: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("n,ncij->cij", weights, patterns)


def unet_digest(pipeline: RestorerPipeline) -> str:
    """SHA-256 over a restorer's weights and embeddings, rounded to float16 as they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted({**pipeline.unet.state_dict(), "prompts": pipeline.prompts}.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def store_offsets(pipeline: RestorerPipeline, file: Path) -> None:
    """Make a file's choice the pipeline's default, in place; nothing without the file.

    Raises ValueError where the file is damaged or of other weights.
    """
    if not file.is_file():
        return
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        offsets = {name: [int(side) for side in document["chosen"][name]] for name in ("pos_pad", "neg_pad")}
        weights = document["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no file of `python -m training offsets` ({error}); write it again.") from error
    if weights != unet_digest(pipeline):
        raise ValueError(f"{file} was measured with other weights; run `python -m training offsets` again.")
    pipeline.register_to_config(**offsets)

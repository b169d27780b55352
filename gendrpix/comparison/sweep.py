"""PadCFG's offsets tried one after another: each branch is predicted once and kept, so that a mix costs nothing.

The two branches of PadCFG do not depend on each other. A sweep over the 64 offsets of one of them therefore takes 65
predictions (64 and the fixed one) and not the 128 of 64 separate runs; omega can then be moved without any.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gendrpix.image.color_fix import without_chroma
from gendrpix.restore.guidance import Branches, mix
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.settings.checks import check_offset
from gendrpix.specs import PATCH, Offset

Side = Literal["positive", "negative"]
Score = Callable[[Tensor], float]
"""(1, 3, H, W) in [-1, 1], clamped => a figure."""

BUDGET_BYTES = 300_000_000
"""What a bank keeps at most: more than both branches' 64 offsets of a 512 x 384 result."""
ALL_OFFSETS: tuple[Offset, ...] = tuple((row, column) for row in range(PATCH) for column in range(PATCH))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One offset of a sweep, with its figure."""

    offset: Offset
    value: float
    done: int
    """Cells that are ready, this one included."""
    total: int


class BranchBank:
    """The branches of one picture by side and offset, float32 on the CPU, each predicted once.

    Beyond `budget_bytes` what was used longest ago is dropped, and predicted again if it is asked for.
    """

    def __init__(
        self, pipeline: RestorerPipeline, pixels: Tensor, *, grey: bool = False, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        """`pixels`: (1, 3, H, W) in [-1, 1] at the output size, as `pipeline.prepare` makes them.

        grey: the picture has no colour, and so the branches are kept without chroma.
        """
        if not pipeline.restorer.guided:
            raise ValueError(f"Offsets are those of GenDR-Pix, not of {pipeline.restorer.label}; load gendr-pix.")
        if pixels.ndim != 4 or pixels.shape[0] != 1:
            raise ValueError(f"A bank is of one picture, (1, 3, H, W); got {tuple(pixels.shape)}.")
        self.pipeline = pipeline
        self.pixels = pixels
        self.grey = grey
        self.budget_bytes = budget_bytes
        self.predicted = 0
        """Predictions made so far."""
        self._kept: OrderedDict[tuple[Side, Offset | None], Tensor] = OrderedDict()

    def branch(self, side: Side, offset: Offset | None) -> Tensor:
        """(1, 3, H, W) float32, not clamped; predicted if it is not kept. None is the unpadded pass."""
        self.fill(side, [offset])
        return self._kept[side, offset]

    def fill(self, side: Side, offsets: Sequence[Offset | None]) -> None:
        """Predict those that are not kept, as one batch."""
        missing = [offset for offset in dict.fromkeys(offsets) if (side, offset) not in self._kept]
        for offset in missing:
            if offset is not None:
                check_offset(offset)
        if missing:
            predicted = self.pipeline.restore_branch(self.pixels, missing, positive=side == "positive")
            if self.grey:
                predicted = without_chroma(predicted)
            for offset, one in zip(missing, predicted.float().cpu().split(1), strict=True):
                self._kept[side, offset] = one.clone()
            self.predicted += len(missing)
        for offset in offsets:
            self._kept.move_to_end((side, offset))
        self._drop(keep=len(offsets))

    def mixed(self, pos_pad: Offset | None, neg_pad: Offset | None, omega: float) -> Tensor:
        """PadCFG's result, (1, 3, H, W) float32, clamped to [-1, 1]; omega 1 needs the positive branch alone."""
        positive = self.branch("positive", pos_pad)
        if omega == 1.0:
            return positive.clamp(-1, 1)
        return mix(Branches(positive, self.branch("negative", neg_pad)), omega).clamp(-1, 1)

    def _drop(self, keep: int) -> None:
        most = max(keep + 1, self.budget_bytes // max(1, self.pixels.numel() * 4))
        while len(self._kept) > most:
            self._kept.popitem(last=False)


def sweep_offsets(
    bank: BranchBank,
    side: Side,
    fixed: Offset | None,
    omega: float,
    score: Score,
    *,
    offsets: Sequence[Offset] = ALL_OFFSETS,
    batch: int = 1,
) -> Iterator[Cell]:
    """Score the mix for each offset of one branch while the other stays at `fixed`; a cell as soon as it is known.

    batch: offsets predicted at once, faster on any device. Between two cells the caller may stop. Raises
    ValueError at once where the figures could not differ.
    """
    if side not in ("positive", "negative"):
        raise ValueError(f"The side of a sweep is 'positive' or 'negative'; got {side!r}.")
    if batch < 1 or not offsets:
        raise ValueError(f"batch is {batch} and there are {len(offsets)} offsets; expected at least 1 of each.")
    if side == "negative" and omega == 1.0:
        raise ValueError("At omega 1 the bad run has no say, so all its offsets give one result; move omega first.")
    return _cells(bank, side, fixed, omega, score, offsets, batch)


def _cells(
    bank: BranchBank,
    side: Side,
    fixed: Offset | None,
    omega: float,
    score: Score,
    offsets: Sequence[Offset],
    batch: int,
) -> Iterator[Cell]:
    other = None if omega == 1.0 else bank.branch("negative" if side == "positive" else "positive", fixed)
    for start in range(0, len(offsets), batch):
        group = offsets[start : start + batch]
        bank.fill(side, group)
        for number, offset in enumerate(group, start + 1):
            moved = bank.branch(side, offset)
            if other is None:
                result = moved
            else:
                result = mix(Branches(moved, other) if side == "positive" else Branches(other, moved), omega)
            yield Cell(offset=offset, value=score(result.clamp(-1, 1)), done=number, total=len(offsets))


def omega_curve(
    bank: BranchBank, pos_pad: Offset | None, neg_pad: Offset | None, omegas: Sequence[float], score: Score
) -> Iterator[tuple[float, float]]:
    """(omega, figure) for each omega: two predictions in all, none where both branches are kept."""
    for omega in omegas:
        yield omega, score(bank.mixed(pos_pad, neg_pad, omega))


def best_offset(cells: Sequence[Cell], *, higher_is_better: bool) -> Offset:
    """The offset of the best figure, the first of equals. Raises ValueError for no cells."""
    if not cells:
        raise ValueError("No offset has been scored yet; run a sweep first.")
    pick = max if higher_is_better else min
    return pick(cells, key=lambda cell: cell.value).offset

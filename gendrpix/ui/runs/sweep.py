"""What the tuner keeps of a region of a photo: its branches and the figures of its sweeps.

Kept on the server by photo and region, the most recent few, and shared by all visitors who look at the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine

if TYPE_CHECKING:
    from torch import Tensor

    from gendrpix.comparison.sweep import BranchBank, Side
    from gendrpix.metrics.scorer import Scorer
    from gendrpix.settings.presets import Guidance
    from gendrpix.specs import Offset

KEPT = 2
"""Workspaces that are kept."""
OMEGAS = tuple(step / 4 for step in range(13))
"""Where a sweep's omega curve is measured."""
TOGETHER = 4
"""Offsets of a sweep that are predicted at once: a fifth less work than singly (`python -m benchmarks.sweep_cost`)."""
METRIC_CHOICES = ("grid", "piqe", "musiq")
"""What a sweep can be scored by; none of them needs a truth."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A square of a photo, and how much it is enlarged."""

    photo: Path
    across: float
    """Of its centre, 0 to 1."""
    down: float
    side_px: int
    """Of the result, at most."""
    scale: float


@dataclass(frozen=True, kw_only=True)
class SweepKey:
    """What a sweep's figures depend on besides the region."""

    side: Side
    fixed: Offset
    omega: float
    metric: str


@dataclass(kw_only=True)
class Workspace:
    """One region's branches and figures."""

    bank: BranchBank
    sweeps: dict[SweepKey, dict[Offset, float]] = field(default_factory=dict)

    def result(self, guidance: Guidance) -> Tensor:
        """(1, 3, H, W) in [-1, 1]."""
        return self.bank.mixed(*guidance.offsets, guidance.mixed_omega)


class Workspaces:
    """The most recent workspaces of a server."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.Lock()
        self._kept: OrderedDict[Region, Workspace] = OrderedDict()
        self._scorers: dict[str, Scorer] = {}

    def find(self, region: Region) -> Workspace:
        """The region's workspace, made if it is not kept. Raises ValueError where the photo is refused."""
        with self._lock:
            if region not in self._kept:
                self._kept[region] = self._make(region)
            self._kept.move_to_end(region)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[region]

    def _make(self, region: Region) -> Workspace:
        from gendrpix.comparison.sweep import BranchBank
        from gendrpix.image.picture import cut, place_box

        picture = self.engine.open_photo(region.photo)
        side = max(1, int(region.side_px // region.scale))
        box = place_box(picture.width, picture.height, across=region.across, down=region.down, side_px=side)
        pipeline = self.engine.pipeline("gendr-pix")
        pixels = pipeline.prepare(cut(picture, box), region.scale)
        return Workspace(bank=BranchBank(pipeline, pixels, grey=picture.grey))

    def sweep(self, space: Workspace, key: SweepKey, stop: CancelToken | None = None) -> Iterator[int]:
        """Score the offsets that are not known yet, into `space.sweeps[key]`; the number known after each.

        They are predicted a few at once while no other visitor's computation runs. `stop` ends it; what is scored is
        kept.
        """
        from gendrpix.comparison.sweep import ALL_OFFSETS, sweep_offsets

        known = space.sweeps.setdefault(key, {})
        missing = [offset for offset in ALL_OFFSETS if offset not in known]
        if not missing:
            return
        score = self.measurer(key.metric)
        cells = sweep_offsets(space.bank, key.side, key.fixed, key.omega, score, offsets=missing, batch=TOGETHER)
        for _ in missing:
            with self.engine.turn(stop):
                cell = next(cells)
            known[cell.offset] = cell.value
            yield len(known)

    def curve(
        self, space: Workspace, pos_pad: Offset, neg_pad: Offset, metric: str, stop: CancelToken | None = None
    ) -> list[tuple[float, float]]:
        """(omega, figure) at `OMEGAS` with those offsets."""
        from gendrpix.comparison.sweep import omega_curve

        points = omega_curve(space.bank, pos_pad, neg_pad, OMEGAS, self.measurer(metric))
        found = []
        for _ in OMEGAS:
            with self.engine.turn(stop):
                found.append(next(points))
        return found

    def measure(self, x: Tensor, metric: str) -> float:
        """One figure of (1, 3, H, W) as it would be saved. Raises ValueError with the reason where there is none."""
        from gendrpix.comparison.comparison import score_image
        from gendrpix.image.write import to_pil

        scores = score_image(to_pil(x), self.scorer(metric))
        if metric not in scores.values:
            raise ValueError(scores.missing[metric])
        return scores.values[metric]

    def scorer(self, metric: str) -> Scorer:
        """A scorer of that metric alone."""
        from gendrpix.metrics.scorer import Scorer

        with self._lock:
            if metric not in self._scorers:
                self._scorers[metric] = Scorer([metric], device=self.engine.scorer.device)
            return self._scorers[metric]

    def measurer(self, metric: str) -> Callable[[Tensor], float]:
        """`measure` for one metric."""
        return lambda x: self.measure(x, metric)

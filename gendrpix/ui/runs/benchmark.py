"""A benchmark of the engine's own restorers, case by case, so that others have their turn between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.zerogpu import on_zero_gpu

if TYPE_CHECKING:
    from gendrpix.bench.cases import BenchResult, Measured

NO_BENCHMARK = (
    "This Space lends its GPU for seconds, so nothing can be timed here; duplicate it with hardware of its own, or run "
    "`gendrpix bench` on your machine."
)


class Benching:
    """One run: what is planned, and what has been measured of it."""

    def __init__(self, engine: Engine, restorers: Sequence[str], sizes: Sequence[str | int], repeats: int) -> None:
        """`sizes` as the command line takes them. Raises ValueError for options that make no sense."""
        if on_zero_gpu():
            raise ValueError(NO_BENCHMARK)
        options = core.Bench(
            output=Path(),
            restorers=tuple(restorers),  # type: ignore[arg-type]
            sizes=tuple(map(str, sizes)),
            dtypes=(str(engine.dtype).removeprefix("torch."),),  # type: ignore[arg-type]
            peers=(),
            weights=engine.weights_name,
            repeats=int(repeats),
        )
        self.engine = engine
        self.plan = core.plan_bench(options)
        self.device = engine.device
        self.measured: list[Measured] = []
        self._stream = core.measure_all(self.plan, self.device, engine.pipeline)

    def measure_next(self, stop: CancelToken | None = None) -> Measured:
        """The next case, while no other visitor's computation runs. `stop` ends it."""
        with self.engine.turn(stop):
            one = next(self._stream)
            if stop is not None:
                stop.check()  # a case that was stopped has kept that as its reason
        self.measured.append(one)
        return one

    def result(self, stop: CancelToken | None = None) -> BenchResult:
        """What has been measured so far, with the environment and what a matrix product reaches now."""
        with self.engine.turn(stop):
            return core.gather(self.plan, self.device, self.measured)

"""ZeroGPU: a Space whose GPU is lent to one call at a time, for as many seconds as it asks for. A no-op elsewhere.

A lent call runs in a process of its own that is forked from the server's: what goes in and comes out is pickled, and
lies on the CPU; the models were moved to the device before the page was launched and are found there. Cancel, whose
flag stays behind in the server, therefore acts between the restorers of a comparison and not within one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gendrpix.ui.engine.late import core

if TYPE_CHECKING:
    from torch import Tensor

    from gendrpix.image.picture import Picture
    from gendrpix.restore.pipelines import RestorerPipeline
    from gendrpix.restore.restorer import Result
    from gendrpix.settings.restoration import RestoreSettings
    from gendrpix.specs import Offset
    from gendrpix.ui.engine.request import Job

F = TypeVar("F", bound=Callable[..., Any])

START_S, PASS_S_PER_MEGAPIXEL, LONGEST_S = 10.0, 2.0, 120
"""What a call asks for: an estimate for the full-size network, not measured. The hub lends no longer than the last."""
TIMED_RUNS = 2
"""A comparison's passes of each restorer: one to warm up, one counted."""


def on_zero_gpu() -> bool:
    """Whether this server is such a Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")


def lent(function: F, seconds: Callable[..., int]) -> F:
    """The function with the GPU lent for `seconds(*args)` of its arguments; itself where there is no ZeroGPU.

    Called once, before the page is launched and before torch is imported.
    """
    if not on_zero_gpu():
        return function
    import spaces

    decorated: F = spaces.GPU(duration=seconds)(function)
    return decorated


def seconds_for(megapixels: float, passes: float) -> int:
    """Seconds to ask for: as few as will do, because short calls are served first."""
    return min(LONGEST_S, round(START_S + PASS_S_PER_MEGAPIXEL * megapixels * passes))


def megapixels_of(height: int, width: int, scale: float) -> float:
    """Of the result of a picture of that size."""
    return height * width * scale**2 / 1e6


def restoring_s(name: str, pixels: Tensor, settings: RestoreSettings, *_: Any) -> int:
    """Seconds for one run of a restorer."""
    height, width = pixels.shape[-2:]
    passes = 1 if settings.guidance is None else 2
    return seconds_for(megapixels_of(height, width, settings.scale_for(width, height)), passes)


def branch_s(name: str, pixels: Tensor, offsets: Sequence[Offset | None], positive: bool) -> int:
    """Seconds for the branches at some offsets."""
    return seconds_for(pixels.shape[-1] * pixels.shape[-2] / 1e6, len(offsets))


def comparing_s(job: Job, *_: Any) -> int:
    """Seconds for all restorers of a comparison; GenDR's autoencoder counts as two passes, GenDR-Adc's half as one."""
    passes = {"gendr": 3, "gendr-adc": 2, "gendr-pix": 2, "gendr-pix*": 1}
    runs = TIMED_RUNS * sum(passes[name] for name in job.names)
    return seconds_for(megapixels_of(job.picture.height, job.picture.width, job.scale), runs)


class GpuPipeline:
    """A restorer as the page sees it on ZeroGPU: what computes runs where the GPU is lent."""

    def __init__(self, real: RestorerPipeline, call: Callable[..., Any], branch: Callable[..., Any]) -> None:
        self._real = real
        self._call = call
        self._branch = branch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run(self, pixels: Tensor, settings: RestoreSettings, *, grey: Sequence[bool] | bool = False) -> Result:
        """`OneStepRestorer.run`, on the CPU on both sides."""
        result: Result = self._call(self.restorer.name, pixels, settings, grey)
        return result

    def restore_branch(self, pixels: Tensor, offsets: Sequence[Offset | None], *, positive: bool) -> Tensor:
        """`RestorerPipeline.restore_branch`, on the CPU on both sides."""
        result: Tensor = self._branch(self.restorer.name, pixels, list(offsets), positive)
        return result

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """`RestorerPipeline.prepare`, on the CPU."""
        height, width = core.output_size(picture.height, picture.width, scale)
        core.check_output_size(height, width)
        return core.resize(picture.color, height, width)

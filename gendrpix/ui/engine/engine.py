"""The core behind the page: imported late, loaded once, used by one computation at a time.

Nothing here may import torch at module level: the page is served first, the core follows in the background.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gendrpix.settings.recipe import INPUT, png_entries, weights_name, write_recipe
from gendrpix.settings.restoration import RestoreSettings, order_choices
from gendrpix.specs import RESTORER_SPECS, Box
from gendrpix.ui.engine.cancel import CancelToken, FairLock, watch
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Job, Request, enlarged
from gendrpix.ui.engine.zerogpu import GpuPipeline, branch_s, comparing_s, lent, on_zero_gpu, restoring_s
from gendrpix.ui.server.settings import server_settings

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from gendrpix.comparison.comparison import Compared
    from gendrpix.comparison.forecast import Rates
    from gendrpix.image.picture import Limits, Picture
    from gendrpix.metrics.scorer import Scorer
    from gendrpix.restore.cache import RestorerCache
    from gendrpix.restore.pipelines import RestorerPipeline
    from gendrpix.restore.restorer import Result
    from gendrpix.specs import Offset

COMPUTE = "compute"
"""The one concurrency id of every event that computes."""


class Engine:
    """Weights and metrics of this server; all handlers compute through it, one at a time."""

    def __init__(self, weights: str | None = None) -> None:
        """`weights`: a bundled family, a folder or a hub id; by default GENDRPIX_WEIGHTS or, without it, "mini"."""
        self.weights = weights or os.environ.get("GENDRPIX_WEIGHTS") or "mini"
        self._line = FairLock()
        self._building = threading.Lock()
        self._tools: tuple[RestorerCache, Scorer] | None = None
        self._watched: set[int] = set()
        self.loaded = False
        """Whether `gendrpix.ui.engine.warmup` has come to its end without an error."""
        self._call = lent(self._run, restoring_s)
        self._branch = lent(self._run_branch, branch_s)
        self._lines = lent(self._compare, comparing_s)

    @property
    def weights_name(self) -> str:
        """How the footer names the weights: a bundled family or hub id as it is, a folder by its own name."""
        return weights_name(self.weights)

    @cached_property
    def rates(self) -> Rates:
        """How long restorers have taken on this server."""
        return core.Rates()

    def describe_weights(self) -> str:
        """The weights' name with the first digits of each restorer's hash; its name alone where they cannot be read.

        Waits for the core's import.
        """
        try:
            hashes = [f"{spec.label} {self.digest(name)[:12]}" for name, spec in RESTORER_SPECS.items()]
        except (ValueError, OSError):
            return self.weights_name
        return f"{self.weights_name} ({', '.join(hashes)})"

    def _get_tools(self) -> tuple[RestorerCache, Scorer]:
        with self._building:
            if self._tools is None:
                device = core.pick_device()
                self._tools = (
                    core.RestorerCache(self.weights, device=device, dtype=core.pick_dtype("auto", device)),
                    core.Scorer(core.DEFAULT_METRICS, device=device),
                )
            return self._tools

    @property
    def scorer(self) -> Scorer:
        """The metrics of the page."""
        return self._get_tools()[1]

    @property
    def device(self) -> torch.device:
        """Where the restorers compute."""
        return self._get_tools()[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The numbers that the restorers compute with."""
        return self._get_tools()[0].dtype

    def pipeline(self, name: str) -> RestorerPipeline:
        """The restorer, loaded, for the page's calls. Raises ValueError where there are no weights."""
        real = self._load_pipeline(name)
        return cast("RestorerPipeline", GpuPipeline(real, self._call, self._branch)) if on_zero_gpu() else real

    def _load_pipeline(self, name: str) -> RestorerPipeline:
        """The restorer itself; it stops when a visitor cancels."""
        pipeline = self._get_tools()[0](name)
        with self._building:
            if id(pipeline) not in self._watched:
                watch(pipeline)
                self._watched.add(id(pipeline))
        return pipeline

    def turn(self, stop: CancelToken | None = None) -> AbstractContextManager[None]:
        """Compute while no other visitor's computation runs; raises StoppedError in the body once `stop` is set."""
        return self._line.turn(stop)

    def digest(self, name: str) -> str:
        """SHA-256 of a restorer's weights, computed once."""
        return self._get_tools()[0].digest(name)

    @property
    def limits(self) -> Limits:
        """What this server takes in and gives out."""
        settings = server_settings()
        return core.Limits(
            max_bytes=settings.max_file_mb * 1_000_000,
            max_pixels=settings.max_pixels,
            max_output_pixels=settings.max_output_pixels,
        )

    def open_photo(self, path: str | Path) -> Picture:
        """A visitor's picture, within this server's limits. Raises ValueError if refused."""
        return core.open_picture(path, self.limits)

    def read(self, request: Request) -> tuple[Picture, RestoreSettings]:
        """`settle` for the request's photo."""
        return self.settle(request, self.open_photo(request.photo))

    def settle(self, request: Request, picture: Picture) -> tuple[Picture, RestoreSettings]:
        """What to restore of the photo, and the settings, whose crop says where it lies. Raises ValueError."""
        settings = request.settings
        if request.region is not None:
            crop = core.place_box(picture.width, picture.height, **request.region._asdict())
            settings = replace(settings, crop=crop)
        if settings.crop is not None:
            picture = core.cut(picture, settings.crop)
        scale = settings.scale_for(picture.width, picture.height)
        core.check_output_size(*core.output_size(picture.height, picture.width, scale), self.limits)
        return picture, settings

    def read_sizes(self, request: Request) -> str:
        """Say the photo's size, the result's and what there is to know, or why there can be no such result.

        Raises ValueError where the photo itself is refused.
        """
        photo = self.open_photo(request.photo)
        try:
            picture, settings = self.settle(request, photo)
        except ValueError as error:
            return f"{photo.width} × {photo.height} pixels in. **{error}**"
        height, width = self._result_size(picture, settings)
        kind = "pixels in" if settings.crop is None else "pixels of the photo in"
        said = [f"{picture.width} × {picture.height} {kind}, **{width} × {height}** out", *picture.notes]
        return " · ".join(said)

    def _result_size(self, picture: Picture, settings: RestoreSettings) -> tuple[int, int]:
        scale = settings.scale_for(picture.width, picture.height)
        return core.output_size(picture.height, picture.width, scale)

    def forecast(self, request: Request) -> str:
        """Time and memory that a run is expected to take. Raises ValueError, with a proposal, where it cannot fit.

        Nothing on ZeroGPU, whose device is not there before it is lent.
        """
        if on_zero_gpu():
            return ""
        picture, settings = self.read(request)
        names = order_choices(request.names, settings)
        height, width = self._result_size(picture, settings)
        found = core.forecast(names, height, width, settings, self.pipeline, self.rates)
        return core.in_a_line(found, core.Runs(repeats=request.repeats), self.device)

    def png_entries(self, name: str, settings: RestoreSettings, job: Job) -> dict[str, str]:
        """The text entries of a result's PNG: its recipe. settings: those of the result."""
        recipe = write_recipe(
            settings,
            weights=self.weights_name,
            weights_sha256=None if name == INPUT else self.digest(name),
            input_sha256=job.input_sha256,
            restorer=INPUT if name == INPUT else None,
        )
        return png_entries(recipe)

    def prepare(self, request: Request) -> Job:
        """Read and check everything before anything is computed. Raises ValueError with the reason."""
        runs = core.Runs(repeats=request.repeats)
        photo, digest = core.open_hashed(request.photo, self.limits)
        picture, settings = self.settle(request, photo)
        names = order_choices(request.names, settings)
        height, width = self._result_size(picture, settings)
        truth = None if request.truth is None else self.open_photo(request.truth)
        if truth is not None:
            if settings.crop is not None:
                scale = settings.scale_for(picture.width, picture.height)
                truth = core.cut(truth, enlarged(Box(*settings.crop), scale))
            core.check_truth(truth, width, height)
        for name in names:
            self.pipeline(name)
        if not on_zero_gpu():  # what is free there cannot be known before it is lent
            core.check_fits(names, height, width, settings, self.pipeline)
        return Job(
            picture=picture,
            names=names,
            settings=settings,
            truth=truth,
            repeats=runs.repeats,
            input_sha256=digest,
        )

    def compare(self, job: Job, stop: CancelToken | None = None) -> Iterator[Compared]:
        """The input's line, then one for each restorer as it is complete.

        Each is computed while no other visitor's is; between them others may have their turn. `stop` ends it.
        """
        lines = self._lines(job)
        with self.turn(stop):
            line = core.input_line(job.picture, job.settings, self.scorer, job.truth)
        yield line
        for _ in job.names:
            with self.turn(stop):
                line = next(lines)
            self.rates.learn(line.measurement)
            yield line

    def restore(self, job: Job, stop: CancelToken | None = None) -> tuple[Result, Image]:
        """The result of the job's one restorer and its picture, neither timed nor scored. `stop` ends it."""
        [name] = job.names
        with self.turn(stop):
            settings, grey = job.settings.for_choice(name), job.picture.grey
            result = self.pipeline(name).run(job.picture.color, settings, grey=grey).on_cpu()
        return result, core.to_pil(result.pixels, core.enlarged_alpha(job.picture, result.pixels), grey)

    # What computes, as functions that ZeroGPU may run in a process of its own.

    def _compare(self, job: Job) -> Iterator[Compared]:
        yield from core.compare(
            job.picture,
            job.names,
            job.settings,
            self._load_pipeline,
            self.scorer,
            job.truth,
            runs=core.Runs(warmup=job.warmup, repeats=job.repeats),
            quickest_first=job.quickest_first,
        )

    def _run(self, name: str, pixels: Tensor, settings: RestoreSettings, grey: Sequence[bool] | bool) -> Result:
        return self._load_pipeline(name).run(pixels, settings, grey=grey).on_cpu()

    def _run_branch(self, name: str, pixels: Tensor, offsets: Sequence[Offset | None], positive: bool) -> Tensor:
        pipeline = self._load_pipeline(name)
        return pipeline.restore_branch(pixels.to(pipeline.device), offsets, positive=positive).cpu()

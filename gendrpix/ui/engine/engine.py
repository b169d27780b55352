"""The core behind the page: imported late, loaded once, used by one computation at a time.

Nothing here may import torch at module level: the page is served first, the core follows in the background.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.engine.cancel import CancelToken, FairLock, watch
from gendrpix.ui.engine.request import Job, Request, enlarged
from gendrpix.ui.engine.zerogpu import GpuPipeline, branch_s, comparing_s, lent, on_zero_gpu, restoring_s
from gendrpix.ui.server.settings import server_settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gendrpix.comparison.comparison import Record
    from gendrpix.comparison.forecast import Rates
    from gendrpix.image.picture import Box, Limits, Picture
    from gendrpix.metrics.scorer import Scorer
    from gendrpix.restore.cache import RestorerCache
    from gendrpix.restore.pipelines import RestorerPipeline
    from gendrpix.settings.restoration import CompareSettings
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
        self._digests: dict[str, str] = {}
        self.loaded = False
        """Whether `gendrpix.ui.engine.warmup` has come to its end without an error."""
        self._call = lent(self._run, restoring_s)
        self._branch = lent(self._run_branch, branch_s)
        self._records = lent(self._compare, comparing_s)

    @property
    def weights_name(self) -> str:
        """How the footer names the weights: a bundled family or hub id as it is, a folder by its own name."""
        return Path(self.weights).resolve().name if Path(self.weights).is_dir() else self.weights

    @cached_property
    def rates(self) -> Rates:
        """How long restorers have taken on this server."""
        from gendrpix.comparison.forecast import Rates

        return Rates()

    def describe_weights(self) -> str:
        """The weights' name with the first digits of each restorer's hash; its name alone where they cannot be read.

        Waits for the core's import.
        """
        try:
            from gendrpix.specs import RESTORER_SPECS

            hashes = [f"{spec.label} {self.digest(name)[:12]}" for name, spec in RESTORER_SPECS.items()]
        except (ValueError, OSError):
            return self.weights_name
        return f"{self.weights_name} ({', '.join(hashes)})"

    def _get_tools(self) -> tuple[RestorerCache, Scorer]:
        from gendrpix.devices import pick_device, pick_dtype
        from gendrpix.metrics.registry import DEFAULT_METRICS
        from gendrpix.metrics.scorer import Scorer
        from gendrpix.restore.cache import RestorerCache

        with self._building:
            if self._tools is None:
                device = pick_device()
                self._tools = (
                    RestorerCache(self.weights, device=device, dtype=pick_dtype("auto", device)),
                    Scorer(DEFAULT_METRICS, device=device),
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
        from gendrpix.specs import restorer_of
        from gendrpix.weights.load import find_restorer_folder
        from gendrpix.weights.verify import digest_weights

        restorer = restorer_of(name)
        if restorer not in self._digests:
            self._digests[restorer] = digest_weights(find_restorer_folder(restorer, self.weights))
        return self._digests[restorer]

    @property
    def limits(self) -> Limits:
        """What this server takes in and gives out."""
        from gendrpix.image.picture import Limits

        settings = server_settings()
        return Limits(
            max_bytes=settings.max_file_mb * 1_000_000,
            max_pixels=settings.max_pixels,
            max_output_pixels=settings.max_output_pixels,
        )

    def open_photo(self, path: str | Path) -> Picture:
        """A visitor's picture, within this server's limits. Raises ValueError if refused."""
        from gendrpix.image.read import open_picture

        return open_picture(path, self.limits)

    def read(self, request: Request) -> tuple[Picture, Box | None, CompareSettings]:
        """`settle` for the request's photo."""
        return self.settle(request, self.open_photo(request.photo))

    def settle(self, request: Request, picture: Picture) -> tuple[Picture, Box | None, CompareSettings]:
        """What to restore of the photo, where in it that lies, and the settings. Raises ValueError with the reason."""
        from gendrpix.image.picture import cut, place_box
        from gendrpix.image.resize import check_output_size, output_size
        from gendrpix.settings.recipe import pick_scale
        from gendrpix.settings.restoration import CompareSettings

        box = None
        if request.region is not None:
            box = place_box(picture.width, picture.height, **request.region._asdict())
            picture = cut(picture, box)
        settings = CompareSettings(
            scale=pick_scale(picture.width, picture.height, request.scale, request.size_px),
            guidance=request.guidance,
            pos_pad=request.pos_pad,
            neg_pad=request.neg_pad,
            plain_cfg=request.plain_cfg,
            repeats=request.repeats,
            color_fix=request.color_fix,
        )
        check_output_size(*output_size(picture.height, picture.width, settings.scale), self.limits)
        return picture, box, settings

    def read_sizes(self, request: Request) -> str:
        """Say the photo's size, the result's and what there is to know, or why there can be no such result.

        Raises ValueError where the photo itself is refused.
        """
        from gendrpix.image.resize import output_size

        photo = self.open_photo(request.photo)
        try:
            picture, box, settings = self.settle(request, photo)
        except ValueError as error:
            return f"{photo.width} × {photo.height} pixels in. **{error}**"
        height, width = output_size(picture.height, picture.width, settings.scale)
        kind = "pixels in" if box is None else "pixels of the photo in"
        said = [f"{picture.width} × {picture.height} {kind}, **{width} × {height}** out", *picture.notes]
        return " · ".join(said)

    def forecast(self, request: Request) -> str:
        """Time and memory that a run is expected to take. Raises ValueError, with a proposal, where it cannot fit.

        Nothing on ZeroGPU, whose device is not there before it is lent.
        """
        if on_zero_gpu():
            return ""
        from gendrpix.comparison.forecast import forecast, in_a_line
        from gendrpix.image.resize import output_size
        from gendrpix.settings.restoration import order_choices

        picture, _, settings = self.read(request)
        names = order_choices(request.names, settings)
        height, width = output_size(picture.height, picture.width, settings.scale)
        found = forecast(names, height, width, settings, self.pipeline, self.rates)
        return in_a_line(found, settings, self.device)

    def png_entries(self, record: Record, photo: Path, box: Box | None = None, bits: int = 8) -> dict[str, str]:
        """The text entries of a result's PNG: its recipe."""
        from gendrpix.files import digest_file
        from gendrpix.settings.recipe import describe, png_entries

        digest = self.digest(record.name) if record.device else None
        recipe = describe(record, weights=self.weights_name, weights_sha256=digest, input_sha256=digest_file(photo))
        recipe.update({} if box is None else {"crop": box})
        return png_entries(recipe if bits == 8 else {**recipe, "bits": bits})

    def prepare(self, request: Request) -> Job:
        """Read and check everything before anything is computed. Raises ValueError with the reason."""
        from gendrpix.comparison.comparison import check_truth
        from gendrpix.comparison.forecast import check_fits
        from gendrpix.image.picture import cut
        from gendrpix.image.resize import output_size
        from gendrpix.settings.restoration import order_choices

        picture, box, settings = self.read(request)
        names = order_choices(request.names, settings)
        height, width = output_size(picture.height, picture.width, settings.scale)
        truth = None if request.truth is None else self.open_photo(request.truth)
        if truth is not None:
            if box is not None:
                truth = cut(truth, enlarged(box, settings.scale))
            check_truth(truth, width, height)
        for name in names:
            self.pipeline(name)
        if not on_zero_gpu():  # what is free there cannot be known before it is lent
            check_fits(names, height, width, settings, self.pipeline)
        return Job(picture=picture, names=names, settings=settings, truth=truth, box=box)

    def compare(self, job: Job, stop: CancelToken | None = None) -> Iterator[Record]:
        """The input's record, then one for each restorer as it is complete.

        Each is computed while no other visitor's is; between them others may have their turn. `stop` ends it.
        """
        from gendrpix.comparison.comparison import input_record

        results = self._records(job)
        with self.turn(stop):
            record = input_record(job.picture, job.settings, self.scorer, job.truth)
        yield record
        for _ in job.names:
            with self.turn(stop):
                record = next(results)
            self.rates.learn(record)
            yield record

    # What computes, as functions that ZeroGPU may run in a process of its own.

    def _compare(self, job: Job) -> Iterator[Record]:
        from gendrpix.comparison.comparison import compare

        order = job.quickest_first
        yield from compare(
            job.picture, job.names, job.settings, self._load_pipeline, self.scorer, job.truth, quickest_first=order
        )

    def _run(self, name: str, image: Picture, how: dict[str, Any]) -> Any:
        return self._load_pipeline(name)(image, **how)

    def _run_branch(self, name: str, pixels: Tensor, offsets: Sequence[Offset | None], positive: bool) -> Tensor:
        pipeline = self._load_pipeline(name)
        return pipeline.restore_branch(pixels.to(pipeline.device), offsets, positive=positive).cpu()

    def restore(self, job: Job, stop: CancelToken | None = None) -> Record:
        """The result of the job's one restorer, neither timed nor scored, in tiles where the memory asks for it.

        `stop` ends it.
        """
        import torch
        from PIL.Image import Image

        from gendrpix.comparison.comparison import Record
        from gendrpix.devices import describe_device

        [name] = job.names
        pipeline = self.pipeline(name)
        with self.turn(stop):
            output = pipeline(
                job.picture,
                scale=job.settings.scale,
                guidance=job.settings.guidance if name == "gendr-pix" else None,
                pos_pad=job.settings.pos_pad,
                neg_pad=job.settings.neg_pad,
                plain_cfg=job.settings.plain_cfg,
                color_fix=job.settings.color_fix,
            )
        return Record(
            name=name,
            label=CHOICE_LABELS[name],
            image=cast(Image, output.images[0]),
            pixels=torch.empty(1, 3, 0, 0),
            device=describe_device(pipeline.device),
            dtype=str(pipeline.unet.dtype).removeprefix("torch."),
            settings=job.settings,
        )

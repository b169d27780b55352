"""The core behind the page: imported late, loaded once, used by one computation at a time.

Nothing here may import torch at module level: the page is served first, the core follows in the background.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.settings import server_settings
from gendrpix.ui.stopping import Stop, taking_turn, watch

if TYPE_CHECKING:
    import torch

    from gendrpix.compare import CompareSettings, Record, RestorerCache
    from gendrpix.images import Limits, Picture
    from gendrpix.pipelines import RestorerPipeline
    from gendrpix.report import Table
    from gendrpix.scores import Scorer

logger = logging.getLogger(__name__)

COMPUTE = "compute"
"""The one concurrency id of every event that computes."""

Photo = Mapping[str, Any]
"""An uploaded file as Gradio describes it: "path" on this machine, "orig_name" on the visitor's."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one press of Run asks for. Only what is missing is found here; the core checks the values."""

    photo: Path
    stem: str
    """The photo's name without its suffix, for the names of the results."""
    photo_name: str
    """The photo's own name, as the visitor knows it."""
    names: tuple[str, ...]
    scale: float
    guidance: float | None
    pos_pad: tuple[int, int]
    neg_pad: tuple[int, int]
    plain_cfg: bool
    truth: Path | None = None
    """The picture as it should be, if the visitor has it."""

    @classmethod
    def from_widgets(
        cls,
        photo: Photo | None,
        restorers: Sequence[str] | None,
        scale: float,
        guidance: str,
        omega: float,
        *offsets: int,
        truth: Photo | None = None,
    ) -> Self:
        """The request behind the widgets' raw values; `offsets`: rows and columns of the good run, then of the bad one.

        Raises ValueError with what is missing.
        """
        if not photo:
            raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
        if not restorers:
            raise ValueError("No restorer is chosen. Tick at least one.")
        pos_rows, pos_columns, neg_rows, neg_columns = map(int, offsets)
        return cls(
            photo=Path(photo["path"]),
            stem=Path(photo.get("orig_name") or photo["path"]).stem or "photo",
            photo_name=Path(photo.get("orig_name") or photo["path"]).name,
            names=tuple(restorers),
            scale=float(scale),
            guidance=None if guidance == "Off" else float(omega),
            pos_pad=(pos_rows, pos_columns),
            neg_pad=(neg_rows, neg_columns),
            plain_cfg=guidance == "Plain CFG",
            truth=Path(truth["path"]) if truth else None,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that has been read and checked: the picture, and the restorers in the order they run."""

    picture: Picture
    names: tuple[str, ...]
    settings: CompareSettings
    truth: Picture | None = None

    @property
    def labels(self) -> list[str]:
        return [CHOICE_LABELS[name] for name in self.names]


class Engine:
    """Weights and metrics of this server; all handlers compute through it, one at a time."""

    def __init__(self, weights: str | None = None) -> None:
        """`weights`: a bundled family, a folder or a hub id; by default GENDRPIX_WEIGHTS or, without it, "mini"."""
        self.weights = weights or os.environ.get("GENDRPIX_WEIGHTS") or "mini"
        self._turn = threading.Lock()
        self._building = threading.Lock()
        self._tools: tuple[RestorerCache, Scorer] | None = None
        self._watched: set[int] = set()
        self._digests: dict[str, str] = {}
        self.loaded = False
        """Whether `load_in_background` has come to its end without an error."""

    @property
    def weights_name(self) -> str:
        """How the footer names the weights: a bundled family or hub id as it is, a folder by its own name."""
        return Path(self.weights).resolve().name if Path(self.weights).is_dir() else self.weights

    def load_in_background(self) -> threading.Thread:
        """Import the core, load weights and metrics in a thread, so that the first run need not wait for them."""
        thread = threading.Thread(target=self._load, name="gendrpix-load", daemon=True)
        thread.start()
        return thread

    def _load(self) -> None:
        try:
            from gendrpix.scores import METRICS

            for name in CHOICE_LABELS:
                self.pipeline(name)
            for name in self.scorer.names:
                if not METRICS[name].needs_truth:  # the others are loaded with the first truth
                    self.scorer.unavailable(name)
            for name in CHOICE_LABELS:
                self.digest(name)
        except Exception as error:  # the first run meets it again and says it to the visitor
            logger.warning("the restorers could not be loaded ahead of the first run", exc_info=error)
        else:
            self.loaded = True
            logger.info("restorers loaded")

    def _get_tools(self) -> tuple[RestorerCache, Scorer]:
        from gendrpix.compare import RestorerCache
        from gendrpix.devices import pick_device
        from gendrpix.scores import DEFAULT_METRICS, Scorer

        with self._building:
            if self._tools is None:
                device = pick_device()
                self._tools = RestorerCache(self.weights, device=device), Scorer(DEFAULT_METRICS, device=device)
            return self._tools

    @property
    def scorer(self) -> Scorer:
        """The metrics of the page."""
        return self._get_tools()[1]

    @property
    def device(self) -> torch.device:
        """Where the restorers compute."""
        return self._get_tools()[0].device

    def pipeline(self, name: str) -> RestorerPipeline:
        """The restorer, loaded, that stops when a visitor cancels. Raises ValueError where there are no weights."""
        pipeline = self._get_tools()[0](name)
        with self._building:
            if id(pipeline) not in self._watched:
                watch(pipeline)
                self._watched.add(id(pipeline))
        return pipeline

    def turn(self, stop: Stop | None = None) -> AbstractContextManager[None]:
        """Compute while no other visitor's computation runs; raises StoppedError in the body once `stop` is set."""
        return taking_turn(self._turn, stop)

    def digest(self, name: str) -> str:
        """SHA-256 of a restorer's weights, computed once."""
        from gendrpix.compare import restorer_of
        from gendrpix.recipe import digest_weights
        from gendrpix.weights import find_restorer_folder

        restorer = restorer_of(name)
        if restorer not in self._digests:
            self._digests[restorer] = digest_weights(find_restorer_folder(restorer, self.weights))
        return self._digests[restorer]

    @property
    def limits(self) -> Limits:
        """What this server takes in and gives out."""
        from gendrpix.images import Limits

        settings = server_settings()
        return Limits(
            max_bytes=settings.max_file_mb * 1_000_000,
            max_pixels=settings.max_pixels,
            max_output_pixels=settings.max_output_pixels,
        )

    def open_photo(self, path: str | Path) -> Picture:
        """A visitor's picture, within this server's limits. Raises ValueError if refused."""
        from gendrpix.images import open_picture

        return open_picture(path, self.limits)

    def read_sizes(self, photo: Photo, scale: float) -> str:
        """Read the photo and say its size, the result's and what there is to know. Raises ValueError if refused."""
        from gendrpix.images import check_output_size, output_size

        picture = self.open_photo(photo["path"])
        height, width = output_size(picture.height, picture.width, scale)
        check_output_size(height, width, self.limits)
        said = [f"{picture.width} × {picture.height} pixels in, **{width} × {height}** out", *picture.notes]
        return " · ".join(said)

    def png_entries(self, record: Record, photo: Path) -> dict[str, str]:
        """The text entries of a result's PNG: its recipe."""
        from gendrpix.recipe import png_entries
        from gendrpix.ui.share import describe, digest_file

        digest = self.digest(record.name) if record.device else None
        recipe = describe(record, weights=self.weights_name, weights_sha256=digest, input_sha256=digest_file(photo))
        return png_entries(recipe)

    def prepare(self, request: Request) -> Job:
        """Read and check everything before anything is computed. Raises ValueError with the reason."""
        from gendrpix.compare import CompareSettings, check_truth, order_choices
        from gendrpix.images import check_output_size, output_size

        settings = CompareSettings(
            scale=request.scale,
            guidance=request.guidance,
            pos_pad=request.pos_pad,
            neg_pad=request.neg_pad,
            plain_cfg=request.plain_cfg,
        )
        names = order_choices(request.names, settings)
        picture = self.open_photo(request.photo)
        height, width = output_size(picture.height, picture.width, settings.scale)
        check_output_size(height, width, self.limits)
        truth = None if request.truth is None else self.open_photo(request.truth)
        if truth is not None:
            check_truth(truth, width, height)
        for name in names:
            self.pipeline(name)
        return Job(picture=picture, names=names, settings=settings, truth=truth)

    def compare(self, job: Job, stop: Stop | None = None) -> Iterator[Record]:
        """The input's record, then one for each restorer as it is complete.

        Each is computed while no other visitor's is; between them others may have their turn. `stop` ends it.
        """
        from gendrpix.compare import compare, input_record

        results = compare(job.picture, job.names, job.settings, self.pipeline, self.scorer, job.truth)
        with self.turn(stop):
            record = input_record(job.picture, job.settings, self.scorer, job.truth)
        yield record
        for _ in job.names:
            with self.turn(stop):
                record = next(results)
            yield record

    def restore(self, job: Job, stop: Stop | None = None) -> Record:
        """The result of the job's one restorer, neither timed nor scored, in tiles where the memory asks for it.

        `stop` ends it.
        """
        import torch
        from PIL.Image import Image

        from gendrpix.compare import Record, describe_device

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


def scorecard(expected: Sequence[str], records: Sequence[Record], *, stopped: bool = False) -> Table:
    """The core's table of what is ready, the input first, with a line for each expected restorer that is not."""
    from gendrpix.report import to_table

    table = to_table(records)
    blanks = ("",) * (len(table.header) - 2)
    states = ("not run",) * len(expected) if stopped else ("running …", *("waiting",) * len(expected))
    pending = zip(expected[len(records) - 1 :], states, strict=False)
    return replace(table, rows=table.rows + tuple((label, state, *blanks) for label, state in pending))


def figures_alone(record: Record) -> Record:
    """The record without its pictures, which are in files: a session keeps it long after the run."""
    image = record.image.crop((0, 0, 1, 1))
    return replace(record, image=image, pixels=record.pixels.new_empty(1, 3, 0, 0), branches=None)

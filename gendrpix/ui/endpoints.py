"""The named endpoints for programs, `restore` and `compare`: typed, through the same engine as the page."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, cast

from gradio import FileData
from gradio.events import api

from gendrpix.specs import CHOICE_LABELS, COMPARED_OMEGA, NEG_PAD, POS_PAD
from gendrpix.ui.engine import COMPUTE, Engine, Job, Request
from gendrpix.ui.errors import spoken
from gendrpix.ui.results import Results, save_result

KEPT = 4
"""Calls whose files stay until Gradio has copied them to its own cache; they are computed one at a time."""


class Endpoints:
    """What `gradio_client` and plain HTTP can call. The docstrings are the endpoints' public descriptions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._kept: deque[Results] = deque(maxlen=KEPT)
        for name, function in (("restore", self.restore), ("compare", self.compare)):
            api(function, api_name=name, concurrency_id=COMPUTE, concurrency_limit=1)

    def restore(
        self,
        photo: FileData,
        restorer: str = "gendr-pix*",
        scale: float = 4.0,
        guidance: float | None = None,
        pos_rows: int = POS_PAD[0],
        pos_columns: int = POS_PAD[1],
        neg_rows: int = NEG_PAD[0],
        neg_columns: int = NEG_PAD[1],
    ) -> FileData:
        """Restore and enlarge one photo and give it back as a PNG file.

        restorer is gendr, gendr-adc, gendr-pix or gendr-pix*; scale is 1 to 8; guidance is PadCFG's omega for
        gendr-pix, null for one unguided pass; the offsets of its two runs are 0 to 7 pixels.
        """
        with spoken():
            offsets = (pos_rows, pos_columns, neg_rows, neg_columns)
            request = as_request(photo, [restorer], scale, guidance, offsets)
            job = self.engine.prepare(request)
            results = self._new_results(job, request)
            image = self.engine.restore(job)
            return as_file(save_result(image, results.folder, request.stem, job.names[0]))

    def compare(
        self,
        photo: FileData,
        restorers: list[str] = list(CHOICE_LABELS),  # noqa: B006 - read, never changed
        scale: float = 4.0,
        guidance: float | None = COMPARED_OMEGA,
        pos_rows: int = POS_PAD[0],
        pos_columns: int = POS_PAD[1],
        neg_rows: int = NEG_PAD[0],
        neg_columns: int = NEG_PAD[1],
    ) -> tuple[list[FileData], list[dict[str, Any]]]:
        """Restore one photo with several restorers and measure each.

        Gives back the PNG files, the enlarged input first, and for each of them its figures: seconds, speed relative to
        GenDR, peak memory in bytes, quality scores, device and dtype. The parameters are those of /restore.
        """
        from gendrpix.report import to_dict

        with spoken():
            offsets = (pos_rows, pos_columns, neg_rows, neg_columns)
            request = as_request(photo, restorers, scale, guidance, offsets)
            job = self.engine.prepare(request)
            results = self._new_results(job, request)
            files: list[FileData] = []
            figures: list[dict[str, Any]] = []
            for record in self.engine.compare(job):
                files.append(as_file(save_result(record.image, results.folder, request.stem, record.name)))
                figures.append(to_dict(record))
            return files, figures

    def _new_results(self, job: Job, request: Request) -> Results:
        results = Results(job.labels, request.photo, request.photo_name, self.engine.weights_name)
        self._kept.append(results)
        return results


def as_request(
    photo: Any, restorers: list[str], scale: float, guidance: float | None, offsets: tuple[int, int, int, int]
) -> Request:
    """The endpoint's parameters as the page's request."""
    kind, omega = ("Off", COMPARED_OMEGA) if guidance is None else ("PadCFG", guidance)
    return Request.from_widgets(photo, restorers, scale, kind, omega, *offsets)


def as_file(path: Path) -> FileData:
    """A file for Gradio to hand over; the endpoints' outputs go as plain mappings."""
    return cast(FileData, FileData(path=str(path), orig_name=path.name).model_dump())

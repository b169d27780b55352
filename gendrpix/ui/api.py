"""The named endpoints for programs: `restore`, `compare`, `sweep`, `benchmark`, through the same engine as the page.

They are what `gradio_client`, plain HTTP and MCP clients call. Gradio reads parameters and results off the
signatures, so the annotations here must be real types and not strings.
"""

import time
from collections import deque
from pathlib import Path
from typing import Any, Literal, cast, get_args

import gradio as gr
from gradio import FileData
from gradio.events import api

from gendrpix.settings.checks import checked_choice, checked_number, checked_offset
from gendrpix.settings.presets import EXPLORED_OMEGA, MAX_OMEGA
from gendrpix.specs import COLOR_FIXES, COMPARED_OMEGA, NEG_PAD, POS_PAD, Choice, ColorFix
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import COMPUTE, Engine
from gendrpix.ui.engine.request import Job, Request
from gendrpix.ui.engine.results import Results, save_result
from gendrpix.ui.runs.benchmark import Benching
from gendrpix.ui.runs.sweep import METRIC_CHOICES, Region, SweepKey, Workspaces
from gendrpix.ui.widgets.errors import user_errors

ALL: list[Choice] = list(get_args(Choice))
KEPT = 4
"""Calls whose files stay until Gradio has copied them to its own cache; they are computed one at a time."""
MIN_REGION_PX, MAX_REGION_PX = 64, 512
"""Side of a sweep's region in the result."""
MAX_REPEATS = 10


class Endpoints:
    """Handlers of the endpoints. Their docstrings are public: Gradio shows them to programs and language models."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.spaces = Workspaces(engine)
        self._kept: deque[Results] = deque(maxlen=KEPT)
        for function in (self.restore, self.compare, self.sweep, self.benchmark):
            api(function, api_name=function.__name__, concurrency_id=COMPUTE, concurrency_limit=1)

    def restore(
        self,
        photo: FileData,
        restorer: Choice = "gendr-pix*",
        scale: float = 4.0,
        guidance: float | None = None,
        pos_rows: int = POS_PAD[0],
        pos_columns: int = POS_PAD[1],
        neg_rows: int = NEG_PAD[0],
        neg_columns: int = NEG_PAD[1],
        plain_cfg: bool = False,
        size_px: int | None = None,
        color_fix: ColorFix = "none",
    ) -> FileData:
        """Restore and enlarge one photo and give it back as a PNG file, its settings in the file's metadata.

        Parameters:
            photo: The photo: PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF.
            restorer: gendr-pix* is the fastest, one pass of gendr-pix without guidance.
            scale: How many times larger, 1 to 8.
            guidance: Omega of PadCFG, 0 to 3, for gendr-pix alone; null is one pass without guidance.
            pos_rows: Rows of pixels put before the picture in PadCFG's positive run, 0 to 7.
            pos_columns: Columns in the positive run, 0 to 7.
            neg_rows: Rows in the negative run, 0 to 7.
            neg_columns: Columns in the negative run, 0 to 7.
            plain_cfg: Guide without those offsets.
            size_px: Longer side of the result in pixels, in place of scale.
            color_fix: wavelet or adain takes the broad colours from the photo.
        """
        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            progress((0, 2), desc="Reading the photo")
            if guidance is not None and restorer != "gendr-pix":
                raise ValueError(f"Guidance is for gendr-pix, not for {restorer}; leave it out or choose gendr-pix.")
            offsets = (pos_rows, pos_columns, neg_rows, neg_columns)
            more = as_options(size_px, color_fix)
            request = as_request(photo, [restorer], scale, guidance, offsets, plain_cfg, **more)
            job = self.engine.prepare(request)
            progress((1, 2), desc=f"Running {job.labels[0]}")
            record = self.engine.restore(job, stop)
            return self._save(self._keep(job, request), request, record)

    def compare(
        self,
        photo: FileData,
        restorers: list[Choice] = ALL,
        scale: float = 4.0,
        guidance: float | None = COMPARED_OMEGA,
        pos_rows: int = POS_PAD[0],
        pos_columns: int = POS_PAD[1],
        neg_rows: int = NEG_PAD[0],
        neg_columns: int = NEG_PAD[1],
        plain_cfg: bool = False,
        size_px: int | None = None,
        color_fix: ColorFix = "none",
        repeats: int = 1,
    ) -> tuple[list[FileData], list[dict[str, Any]]]:
        """Restore one photo with several restorers and measure each.

        Gives back the PNG files, the enlarged input first, and for each of them its figures: seconds, speed relative
        to GenDR, peak memory in bytes, quality scores, device and dtype.

        Parameters:
            photo: The photo: PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF.
            restorers: Which to compare; they run in the order gendr, gendr-adc, gendr-pix, gendr-pix*.
            scale: How many times larger, 1 to 8.
            guidance: Omega of PadCFG, 0 to 3, for gendr-pix; null turns it into gendr-pix*.
            pos_rows: Rows of pixels put before the picture in PadCFG's positive run, 0 to 7.
            pos_columns: Columns in the positive run, 0 to 7.
            neg_rows: Rows in the negative run, 0 to 7.
            neg_columns: Columns in the negative run, 0 to 7.
            plain_cfg: Guide without those offsets.
            size_px: Longer side of the result in pixels, in place of scale.
            color_fix: wavelet or adain takes the broad colours from the photo.
            repeats: Timed runs of each, 1 to 10; the time is their median.
        """
        from gendrpix.comparison.report import to_dict

        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            progress(0, desc="Reading the photo")
            offsets = (pos_rows, pos_columns, neg_rows, neg_columns)
            more = as_options(size_px, color_fix, repeats)
            request = as_request(photo, restorers, scale, guidance, offsets, plain_cfg, **more)
            job = self.engine.prepare(request)
            results = self._keep(job, request)
            files: list[FileData] = []
            figures: list[dict[str, Any]] = []
            stream = self.engine.compare(job, stop)
            names = ["the input", *job.labels]
            for number, name in enumerate(names):
                progress((number, len(names)), desc=f"{'Running' if number else 'Measuring'} {name}")
                record = next(stream)
                files.append(self._save(results, request, record))
                figures.append(to_dict(record))
            return files, figures

    def sweep(
        self,
        photo: FileData,
        side: Literal["positive", "negative"] = "positive",
        metric: Literal["grid", "piqe", "musiq"] = "grid",
        omega: float = EXPLORED_OMEGA,
        pos_rows: int = POS_PAD[0],
        pos_columns: int = POS_PAD[1],
        neg_rows: int = NEG_PAD[0],
        neg_columns: int = NEG_PAD[1],
        scale: float = 4.0,
        across: float = 50.0,
        down: float = 50.0,
        side_px: int = 256,
    ) -> dict[str, Any]:
        """Score all 64 offsets of one of PadCFG's two runs of gendr-pix on a square region of a photo.

        Gives back the scores as 8 rows of 8 columns, the best offset, the paper's, and the score at 13 values of
        omega with the offsets given. seconds is null where part of it was known from an earlier call.

        Parameters:
            photo: The photo: PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF.
            side: Whose offsets are tried; those of the other run stay as given.
            metric: grid is the 8-pixel pattern in dB, lower is better; piqe, lower is better; musiq, higher is better.
            omega: How far the result moves away from the negative run, 0 to 3; at 1 the negative run has no say.
            pos_rows: Rows of pixels put before the picture in the positive run, 0 to 7.
            pos_columns: Columns in the positive run, 0 to 7.
            neg_rows: Rows in the negative run, 0 to 7.
            neg_columns: Columns in the negative run, 0 to 7.
            scale: How many times larger, 1 to 8.
            across: Centre of the region, percent of the photo's width.
            down: Centre of the region, percent of the photo's height.
            side_px: Side of the region in pixels of the result, 64 to 512.
        """
        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            pads = checked_offset("pos", (pos_rows, pos_columns)), checked_offset("neg", (neg_rows, neg_columns))
            key = SweepKey(
                side=checked_choice("side", side, ("positive", "negative")),
                fixed=pads[1] if side == "positive" else pads[0],
                omega=checked_number("omega", omega, 0.0, MAX_OMEGA),
                metric=checked_choice("metric", metric, METRIC_CHOICES),
            )
            region = as_region(photo, scale, across, down, side_px)
            progress(0, desc="Reading the photo")
            space = self.spaces.find(region)
            fresh = not space.sweeps.get(key)
            start = time.perf_counter()
            for number in self.spaces.sweep(space, key, stop):
                progress((number, 64), desc="Trying offsets")
            seconds = time.perf_counter() - start
            curve = self.spaces.curve(space, *pads, key.metric, stop)
            return {**describe_sweep(space.sweeps[key], key, curve), "seconds": seconds if fresh else None}

    def benchmark(
        self,
        restorers: list[Choice] = ALL,
        sizes: list[int] = [256, 512],  # noqa: B006 - read, never changed
        repeats: int = 3,
    ) -> dict[str, Any]:
        """Time restorers at several output sizes on this server's device, on noise; a size that cannot fit is refused.

        Gives back for each restorer and size the median and all seconds, peak memory in bytes and multiply-adds, or
        the reason why there are none; the power of the pixels with which time grows; device and versions.

        Parameters:
            restorers: Which to time.
            sizes: Sides of the square output in pixels, multiples of 8.
            repeats: Counted runs of each, 1 to 10; the time is their median. One more goes before and is not counted.
        """
        from gendrpix.bench.cases import describe_case
        from gendrpix.bench.report import to_dict

        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            checked_number("repeats", repeats, 1, MAX_REPEATS)
            benching = Benching(
                self.engine, checked_list("restorers", restorers), checked_list("sizes", sizes), repeats
            )
            total = len(benching.plan.cases)
            for number, case in enumerate(benching.plan.cases):
                progress((number, total), desc=f"Timing {describe_case(case)}")
                benching.measure_next(stop)
            return to_dict(benching.result(stop))

    def _keep(self, job: Job, request: Request) -> Results:
        results = Results(job.labels, request.photo, request.photo_name, self.engine.weights_name)
        self._kept.append(results)
        return results

    def _save(self, results: Results, request: Request, record: Any) -> FileData:
        entries = self.engine.png_entries(record, request.photo)
        return as_file(save_result(record.image, results.folder, request.stem, record.name, entries))


def as_request(
    photo: Any,
    restorers: Any,
    scale: Any,
    guidance: Any,
    offsets: tuple[int, int, int, int],
    plain_cfg: Any,
    **more: Any,
) -> Request:
    """The parameters, as a program may send anything, as the page's request. Raises ValueError for what is no value."""
    checked_offset("pos_rows, pos_columns", offsets[:2])
    checked_offset("neg_rows, neg_columns", offsets[2:])
    omega = COMPARED_OMEGA if guidance is None else checked_number("guidance", guidance, 0.0, MAX_OMEGA)
    if not isinstance(plain_cfg, bool):
        raise ValueError(f"plain_cfg is {plain_cfg!r:.40}; expected true or false.")
    kind = "Off" if guidance is None else ("Plain CFG" if plain_cfg else "PadCFG")
    names = checked_list("restorers", restorers)
    factor = None if more["size_px"] else checked_number("scale", scale, 1.0, 8.0)
    return Request.from_widgets(photo, names, factor, kind, omega, *offsets, **more)


def as_options(size_px: Any, color_fix: Any, repeats: Any = 1) -> dict[str, Any]:
    """The parameters that few need, as fields of `Request`. Raises ValueError for what is no value."""
    return {
        "size_px": None if size_px is None else int(checked_number("size_px", size_px, 1, 1_000_000)),
        "color_fix": checked_choice("color_fix", color_fix, COLOR_FIXES),
        "repeats": int(checked_number("repeats", repeats, 1, MAX_REPEATS)),
    }


def as_region(photo: Any, scale: Any, across: Any, down: Any, side_px: Any) -> Region:
    """The parameters of a sweep's region. Raises ValueError for what is no value."""
    if not photo:
        raise ValueError("There is no photo; send one.")
    return Region(
        photo=Path(photo["path"]),
        across=checked_number("across", across, 0.0, 100.0) / 100,
        down=checked_number("down", down, 0.0, 100.0) / 100,
        side_px=int(checked_number("side_px", side_px, MIN_REGION_PX, MAX_REGION_PX)),
        scale=checked_number("scale", scale, 1.0, 8.0),
    )


def describe_sweep(scores: Any, key: SweepKey, curve: list[tuple[float, float]]) -> dict[str, Any]:
    """A whole sweep as JSON values."""
    from gendrpix.metrics.registry import METRICS

    spec = METRICS[key.metric]
    best = (max if spec.higher_is_better else min)(scores, key=scores.__getitem__)
    paper = POS_PAD if key.side == "positive" else NEG_PAD
    return {
        "side": key.side,
        "other_side": list(key.fixed),
        "omega": key.omega,
        "metric": key.metric,
        "unit": spec.unit or None,
        "higher_is_better": spec.higher_is_better,
        "best": {"rows": best[0], "columns": best[1], "score": scores[best]},
        "paper": {"rows": paper[0], "columns": paper[1], "score": scores[paper]},
        "scores": [[scores[row, column] for column in range(8)] for row in range(8)],
        "omega_curve": [{"omega": omega, "score": score} for omega, score in curve],
    }


def checked_list(name: str, value: Any) -> list[Any]:
    """The value. Raises ValueError unless it is a list of texts or numbers."""
    if not isinstance(value, list) or not all(isinstance(one, str | int) for one in value):
        raise ValueError(f"{name} is {value!r:.40}; expected a list.")
    return value


def as_file(path: Path) -> FileData:
    """A file for Gradio to hand over; the endpoints' outputs go as plain mappings."""
    return cast(FileData, FileData(path=str(path), orig_name=path.name).model_dump())

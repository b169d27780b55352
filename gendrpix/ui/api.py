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

from gendrpix.settings.checks import checked_choice, checked_number, checked_whole
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import DEFAULT_OMEGA, NEG_PAD, POS_PAD, Choice, ColorFix, Offset
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import COMPUTE, Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Job, Photo, Request
from gendrpix.ui.engine.results import Results, save_16_bits, save_result
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
        scale: float | None = None,
        guidance: float | None = None,
        pos_rows: int | None = None,
        pos_columns: int | None = None,
        neg_rows: int | None = None,
        neg_columns: int | None = None,
        plain_cfg: bool = False,
        size_px: int | None = None,
        color_fix: ColorFix = "none",
        crop: list[int] | None = None,
        bits: int = 8,
        tile: int | str | None = "auto",
        batched: bool = True,
    ) -> FileData:
        """Restore and enlarge one photo and give it back as a PNG file, its settings in the file's metadata.

        Parameters:
            photo: The photo: PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF.
            restorer: gendr-pix* is the fastest, one pass of gendr-pix without guidance.
            scale: How many times larger, 1 to 8; 4 where neither scale nor size_px is given.
            guidance: Omega of PadCFG, 0 to 3, for gendr-pix alone; null is one pass without guidance.
            pos_rows: Rows of pixels put before the picture in PadCFG's positive run, 0 to 7; null as in the paper.
            pos_columns: Columns in the positive run, 0 to 7.
            neg_rows: Rows in the negative run, 0 to 7.
            neg_columns: Columns in the negative run, 0 to 7.
            plain_cfg: Guide without those offsets.
            size_px: Longer side of the result in pixels, in place of scale.
            color_fix: wavelet or adain takes the broad colours from the photo.
            crop: Restore this part alone: left, top, width and height in pixels of the photo.
            bits: Bits a channel of the PNG, 8 or 16.
            tile: Side of the tiles in pixels of the result, a multiple of 8, or auto; null for the whole at once.
            batched: Run PadCFG's two runs as one batch, or one after the other.
        """
        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            progress((0, 2), desc="Reading the photo")
            settings = as_settings(
                restorer=restorer,
                scale=scale,
                size_px=size_px,
                crop=crop,
                guidance=guidance,
                pos_pad=as_offset(pos_rows, pos_columns, POS_PAD),
                neg_pad=as_offset(neg_rows, neg_columns, NEG_PAD),
                plain_cfg=plain_cfg,
                tile=tile,
                batched=batched,
                color_fix=color_fix,
                bits=bits,
            )
            request = Request.of(cast(Photo, photo), [settings.choice], settings)
            job = self.engine.prepare(request)
            progress((1, 2), desc=f"Running {job.labels[0]}")
            result, image = self.engine.restore(job, stop)
            results = self._keep(job, request)
            return self._save(results, job, settings.choice, result, image)

    def compare(
        self,
        photo: FileData,
        restorers: list[Choice] = ALL,
        scale: float | None = None,
        guidance: float | None = DEFAULT_OMEGA,
        pos_rows: int | None = None,
        pos_columns: int | None = None,
        neg_rows: int | None = None,
        neg_columns: int | None = None,
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
            scale: How many times larger, 1 to 8; 4 where neither scale nor size_px is given.
            guidance: Omega of PadCFG, 0 to 3, for gendr-pix; null turns it into gendr-pix*.
            pos_rows: Rows of pixels put before the picture in PadCFG's positive run, 0 to 7; null as in the paper.
            pos_columns: Columns in the positive run, 0 to 7.
            neg_rows: Rows in the negative run, 0 to 7.
            neg_columns: Columns in the negative run, 0 to 7.
            plain_cfg: Guide without those offsets.
            size_px: Longer side of the result in pixels, in place of scale.
            color_fix: wavelet or adain takes the broad colours from the photo.
            repeats: Timed runs of each, 1 to 10; the time is their median.
        """
        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            progress(0, desc="Reading the photo")
            settings = as_settings(
                scale=scale,
                size_px=size_px,
                guidance=guidance,
                pos_pad=as_offset(pos_rows, pos_columns, POS_PAD),
                neg_pad=as_offset(neg_rows, neg_columns, NEG_PAD),
                plain_cfg=plain_cfg,
                color_fix=color_fix,
            )
            count = checked_whole("repeats", repeats, 1, MAX_REPEATS)
            names = checked_list("restorers", restorers)
            request = Request.of(cast(Photo, photo), names, settings, repeats=count)
            job = self.engine.prepare(request)
            results = self._keep(job, request)
            files: list[FileData] = []
            figures: list[dict[str, Any]] = []
            stream = self.engine.compare(job, stop)
            labels = ["the input", *job.labels]
            for number, label in enumerate(labels):
                progress((number, len(labels)), desc=f"Running {label}")
                one, result, image = next(stream)
                files.append(self._save(results, job, one.name, result, image))
                figures.append(core.to_dict(one))
            return files, figures

    def sweep(
        self,
        photo: FileData,
        side: Literal["positive", "negative"] = "positive",
        metric: Literal["grid", "piqe", "musiq"] = "grid",
        omega: float = DEFAULT_OMEGA,
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
            asked = as_settings(
                scale=scale, guidance=omega, pos_pad=(pos_rows, pos_columns), neg_pad=(neg_rows, neg_columns)
            )
            omega, pads = asked.guidance or 0.0, (asked.pos_pad or POS_PAD, asked.neg_pad or NEG_PAD)
            key = SweepKey(
                side=checked_choice("side", side, ("positive", "negative")),
                fixed=pads[1] if side == "positive" else pads[0],
                omega=omega,
                metric=checked_choice("metric", metric, METRIC_CHOICES),
            )
            region = as_region(photo, asked, across, down, side_px)
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
        progress, stop = gr.Progress(), CancelToken()
        with user_errors():
            checked_whole("repeats", repeats, 1, MAX_REPEATS)
            benching = Benching(
                self.engine, checked_list("restorers", restorers), checked_list("sizes", sizes), repeats
            )
            total = len(benching.plan.cases)
            for number, case in enumerate(benching.plan.cases):
                progress((number, total), desc=f"Timing {core.describe_case(case)}")
                benching.measure_next(stop)
            return core.bench_to_dict(benching.result(stop))

    def _keep(self, job: Job, request: Request) -> Results:
        results = Results(job, request, self.engine.weights_name)
        self._kept.append(results)
        return results

    def _save(self, results: Results, job: Job, name: str, result: Any, image: Any) -> FileData:
        """Save a result with the recipe of its settings, with as many bits as they say."""
        entries = self.engine.png_entries(name, result.settings, job)
        stem = results.request.stem
        if job.settings.bits == 16:
            return as_file(save_16_bits(result, job.picture, results.folder, stem, name, entries))
        return as_file(save_result(image, results.folder, stem, name, entries))


def as_settings(**given: Any) -> RestoreSettings:
    """The parameters, as a program may send anything, as settings. Raises SettingsError for what is no value."""
    return RestoreSettings(**given)


def as_offset(rows: Any, columns: Any, usual: Offset) -> Any:
    """Both numbers, or None where neither is given. One alone has the paper's other one beside it."""
    if rows is None and columns is None:
        return None
    return (usual[0] if rows is None else rows, usual[1] if columns is None else columns)


def as_region(photo: Any, settings: RestoreSettings, across: Any, down: Any, side_px: Any) -> Region:
    """The parameters of a sweep's region. Raises ValueError for what is no value."""
    if not photo:
        raise ValueError("There is no photo; send one.")
    assert settings.scale is not None
    return Region(
        photo=Path(photo["path"]),
        across=checked_number("across", across, 0.0, 100.0) / 100,
        down=checked_number("down", down, 0.0, 100.0) / 100,
        side_px=checked_whole("side_px", side_px, MIN_REGION_PX, MAX_REGION_PX),
        scale=settings.scale,
    )


def describe_sweep(scores: Any, key: SweepKey, curve: list[tuple[float, float]]) -> dict[str, Any]:
    """A whole sweep as JSON values."""
    spec = core.METRICS[key.metric]
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

"""The tuner's handlers: results and figures of a region, sweeps, presets as files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.settings.presets import PRESETS, Guidance
from gendrpix.specs import NEG_PAD, POS_PAD, Offset
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.runs.sweep import SweepKey, Workspace, Workspaces
from gendrpix.ui.tuner.diagram import draw_pads
from gendrpix.ui.tuner.values import METRIC_LABELS, Swept, as_guidance, as_region, as_widgets, taken
from gendrpix.ui.tuner.widgets import TunerWidgets
from gendrpix.ui.widgets.checks import progress_line
from gendrpix.ui.widgets.errors import user_errors

if TYPE_CHECKING:
    from PIL.Image import Image


SHOWN_EVERY_S = 0.5
CROP_PX = 96
Updates = dict[Any, Any]


class Tuning:
    """Handlers of one tuner tab; they return updates keyed by its widgets."""

    def __init__(self, engine: Engine, tab: TunerWidgets) -> None:
        self.engine = engine
        self.tab = tab
        self.spaces = Workspaces(engine)
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-presets-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    # Settings ------------------------------------------------------------------------------------------------------

    def describe(self, *values: Any) -> list[Any]:
        """The drawing, the JSON to save, and which sliders have a say."""
        with user_errors():
            guidance = as_guidance(*values)
            text = guidance.to_json()
            folder = self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]
            folder.mkdir(exist_ok=True)
            file = folder / "gendrpix-guidance.json"
            file.write_text(text, encoding="utf-8")
            padded = [gr.update(interactive=guidance.kind == "padcfg")] * 4
            drawing = draw_pads(guidance.pos_pad, guidance.neg_pad, guidance.kind)
            return [drawing, gr.update(value=str(file)), *padded, gr.update(interactive=guidance.kind != "none")]

    def take_preset(self, name: str) -> list[Any]:
        """A preset's omega and offsets; one's own stay as they are."""
        if name not in PRESETS:
            return [gr.skip()] * 5
        preset = PRESETS[name]
        return [preset.omega, *preset.pos_pad, *preset.neg_pad]

    def load(self, data: bytes) -> list[Any]:
        """The settings of a JSON file; preset, omega, offsets."""
        with user_errors():
            return as_widgets(Guidance.from_json(data))

    def take_place(self, photo: Photo | None, event: gr.SelectData) -> list[Any]:
        """The place that was clicked in the photo, in percent."""
        if photo is None:
            return [gr.skip(), gr.skip()]
        with user_errors():
            picture = self.engine.open_photo(photo["path"])
            x, y = event.index
            return [round(100 * x / picture.width), round(100 * y / picture.height)]

    def take_cell(
        self,
        swept: Swept | None,
        omega: float,
        pos_rows: int,
        pos_columns: int,
        neg_rows: int,
        neg_columns: int,
        event: gr.SelectData,
    ) -> list[Any]:
        """The offset of the cell that was clicked, for the branch that was swept."""
        from gendrpix.report.maps import cell_at

        offset = cell_at(*event.index)
        return taken(swept, offset, omega, (pos_rows, pos_columns), (neg_rows, neg_columns))

    def take_best(
        self,
        swept: Swept | None,
        omega: float,
        pos_rows: int,
        pos_columns: int,
        neg_rows: int,
        neg_columns: int,
    ) -> list[Any]:
        """The best offset of the sweep, for the branch that was swept."""
        best = None if swept is None else swept.best
        return taken(swept, best, omega, (pos_rows, pos_columns), (neg_rows, neg_columns))

    # Results -------------------------------------------------------------------------------------------------------

    def show(self, *args: Any) -> Updates:
        """The result, its figures, crops and spectrum; predicts only what is not kept."""
        from gendrpix.image.write import to_pil

        *values, swept = args
        tab = self.tab
        if values[0] is None:
            hidden = gr.update(value=None, visible=False)
            return {tab.slider: gr.update(visible="hidden"), tab.crops: hidden, tab.figures: "Choose a photo to begin."}
        with user_errors():
            region, guidance = as_region(*values[:5]), as_guidance(*values[5:])
            space = self.spaces.find(region)
            with self.engine.turn():
                result = space.result(guidance)
                here = swept if swept is not None and swept.region == region else None
                crops = self._crops(space, guidance, here)
            start = space.bank.pixels.float().cpu()
            pictures = (to_pil(start), to_pil(result))
            return {
                tab.slider: gr.update(value=pictures, visible=True),
                tab.figures: self._figures(start, result, guidance),
                tab.crops: gr.update(value=crops, visible=True),
                tab.spectrum: spectra(start, result),
                tab.heat: gr.update(visible=False) if here is None else draw(here, guidance),
                tab.take_best: gr.update(visible=here is not None),
            }

    def _figures(self, start: Any, result: Any, guidance: Guidance) -> str:
        from gendrpix.metrics.registry import METRICS
        from gendrpix.report.maps import figure_text

        said, cautions = [], []
        for metric in ("grid", "piqe"):
            spec = METRICS[metric]
            if min(result.shape[-2:]) < spec.min_px:
                continue
            before, after = (self.spaces.measure(x, metric) for x in (start, result))
            unit = f" {spec.unit}" if spec.unit else ""
            said.append(f"{spec.label} **{figure_text(after)}{unit}** (input {figure_text(before)}{unit})")
            cautions.append(spec.caution)
        height, width = result.shape[-2:]
        sentences = [f"{width} × {height} pixels.", *([", ".join(said) + ".", "Lower is better."] if said else [])]
        return " ".join([*sentences, *filter(None, cautions)])

    def _crops(self, space: Workspace, guidance: Guidance, swept: Swept | None) -> Image:
        from gendrpix.image.write import to_pil
        from gendrpix.report.plots import Crop, crops_sheet

        named = {f"Chosen {short(guidance)}": guidance}
        if swept is not None and swept.best is not None:
            best = at_cell(swept, swept.best)
            named[f"Best {short(best)}"] = best
        named["Paper"] = Guidance(omega=guidance.omega if guidance.kind != "none" else Guidance().omega)
        named["No guidance"] = PRESETS["None (Pix*)"]
        pictures = {label: to_pil(space.result(one)) for label, one in named.items()}
        height, width = space.bank.pixels.shape[-2:]
        side = min(CROP_PX, height, width)
        return crops_sheet(
            pictures, [Crop(left=(width - side) // 2, top=(height - side) // 2, side_px=side)], tile_px=224
        )

    # Sweep ---------------------------------------------------------------------------------------------------------

    def run_sweep(self, *args: Any) -> Iterator[Updates]:
        """Score the 64 offsets of one branch, then omega at the chosen offsets."""
        with user_errors():
            stop = CancelToken()
            yield from self.tab.buttons.guarded(stop, self._sweep(stop, *args), self.ended)

    def _sweep(self, stop: CancelToken, *args: Any) -> Iterator[Updates]:
        tab = self.tab
        yield {**tab.buttons.running(stop), tab.progress: "Preparing."}
        *values, side, metric = args
        region, guidance = as_region(*values[:5]), as_guidance(*values[5:])
        space = self.spaces.find(region)
        fixed = guidance.neg_pad if side == "positive" else guidance.pos_pad
        key = SweepKey(side=side, fixed=fixed, omega=guidance.omega, metric=metric)
        known = space.sweeps.setdefault(key, {})
        swept = Swept(region=region, key=key, values=known)
        fresh = 64 - len(known)
        start = time.perf_counter()
        shown = start
        for number in self.spaces.sweep(space, key, stop):
            if time.perf_counter() - shown > SHOWN_EVERY_S:
                shown = time.perf_counter()
                said = progress_line(number, 64, "offsets", shown - start, done_before=64 - fresh)
                yield {tab.heat: draw(swept, guidance), tab.progress: said}
        seconds = time.perf_counter() - start
        yield {tab.swept: swept, tab.heat: draw(swept, guidance), tab.progress: "Moving omega."}
        curve = as_frame(self.spaces.curve(space, guidance.pos_pad, guidance.neg_pad, metric, stop))
        with self.engine.turn(stop):
            crops = self._crops(space, guidance, swept)
        yield {
            **tab.buttons.idle(),
            tab.curve: gr.update(value=curve, y="score", y_title=METRIC_LABELS[metric], visible=True),
            tab.progress: summary(swept, seconds if fresh == 64 else None),
            tab.take_best: gr.update(visible=True),
            tab.crops: gr.update(value=crops, visible=True),
        }

    def ended(self, _: object, how: str) -> Updates:
        """What is said of a sweep that was cancelled or failed."""
        return {self.tab.progress: f"{how} What was scored is kept."}


def as_frame(points: list[tuple[float, float]]) -> Any:
    """The omega curve as the plot takes it."""
    import pandas as pd

    return pd.DataFrame(points, columns=["omega", "score"])


def at_cell(swept: Swept, offset: Offset) -> Guidance:
    """The guidance of one cell of a sweep."""
    pos, neg = (offset, swept.key.fixed) if swept.key.side == "positive" else (swept.key.fixed, offset)
    return Guidance(omega=swept.key.omega, pos_pad=pos, neg_pad=neg)


def draw(swept: Swept, guidance: Guidance) -> Any:
    """The heat map with its marks: the paper's offset, the best, the chosen."""
    from gendrpix.report.maps import draw_sweep

    positive = swept.key.side == "positive"
    chosen = (guidance.pos_pad if positive else guidance.neg_pad) if guidance.kind == "padcfg" else None
    marks = {"P": POS_PAD if positive else NEG_PAD, "B": swept.best, "C": chosen}
    drawn = draw_sweep(swept.values, higher_is_better=swept.higher_is_better, marks=marks)
    return gr.update(value=drawn, visible=True)


def summary(swept: Swept, seconds: float | None) -> str:
    """The sweep in one line; the time only where all of it was measured now."""
    from gendrpix.report.maps import figure_text

    best = swept.best
    assert best is not None
    paper = POS_PAD if swept.key.side == "positive" else NEG_PAD
    taken = "" if seconds is None else f" 64 offsets in {seconds:.1f} s."
    run = "Good" if swept.key.side == "positive" else "Bad"
    return (
        f"{run} run. Best: rows {best[0]}, columns {best[1]}, {figure_text(swept.values[best])}; the paper's {paper}: "
        f"{figure_text(swept.values[paper])} ({METRIC_LABELS[swept.key.metric]}).{taken}"
    )


def short(guidance: Guidance) -> str:
    """ "4,4/3,3" """
    if guidance.kind != "padcfg":
        return f"({guidance.kind})"
    return "/".join(f"{rows},{columns}" for rows, columns in (guidance.pos_pad, guidance.neg_pad))


def spectra(start: Any, result: Any) -> Any:
    """Both spectra side by side, or nothing where the picture is too small."""
    from PIL import Image

    from gendrpix.report.maps import draw_spectrum, spectrum, stack_beside
    from gendrpix.specs import PATCH

    if min(result.shape[-2:]) < PATCH:
        return None
    return Image.fromarray(stack_beside([draw_spectrum(spectrum(x)) for x in (start, result)]))

"""Pictures of an evaluation: crops side by side, the worst cases included, and intervals as a figure."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import PIL.Image
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from gendrpix.comparison.comparison import SCORED, Compared
from gendrpix.image.read import open_picture
from gendrpix.metrics.registry import METRICS
from gendrpix.report.plots import ACCENT, INK, PAPER, crops_sheet, label_font
from gendrpix.specs import Box
from training.evaluation.datasets import Case
from training.evaluation.methods import TRUTH
from training.evaluation.statistics import Row, by_restorer, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RANKED_BY = ("lpips", "psnr", "piqe", "niqe")
"""By which metric cases are called bad: the first that was computed."""
TILE_PX = 256
"""Side of a crop on a sheet, as near as a whole factor comes."""


def pick_pictures(rows: Sequence[Row], restorer: str, count: int) -> dict[str, str]:
    """Picture => why it is shown: half of them the restorer's worst, the rest evenly from there to its best.

    Ranked by the first metric of `RANKED_BY` that the restorer has on all its pictures; in order of name without any.
    """
    own = by_restorer(rows)[restorer]
    metric = next((name for name in RANKED_BY if all(name in row.values for row in own)), None)
    if metric is None:
        return {row.picture: "" for row in own[:count]}
    spec = METRICS[metric]
    sign = 1 if spec.higher_is_better else -1
    ranked = sorted(own, key=lambda row: (sign * row.values[metric], row.picture))
    worst, rest = ranked[: math.ceil(count / 2)], ranked[math.ceil(count / 2) :]
    wanted = min(count // 2, len(rest))
    others = [rest[round((i + 1) * len(rest) / wanted) - 1] for i in range(wanted)]
    said = {row.picture: f"{spec.label} {row.values[metric]:.{spec.digits}f}" for row in ranked}
    return {
        **{row.picture: f"worst {i + 1}: {said[row.picture]}" for i, row in enumerate(worst)},
        **{row.picture: said[row.picture] for row in others},
    }


class Cuts:
    """The same crop of every method's result, one crop a picture, kept while an evaluation runs."""

    def __init__(self, judged: str, side_px: int) -> None:
        """judged: whose results choose the crops and, by their scores, the pictures that are shown."""
        self.judged, self.side_px = judged, side_px
        self._cuts: dict[str, dict[str, PIL.Image.Image]] = {}

    def add(self, case: Case, lines: Mapping[str, Compared], labels: Mapping[str, str]) -> None:
        """Cut one case's results, method => line, shown in that order under their labels; the truth goes last."""
        result = open_picture(lines[self.judged].image, SCORED).color
        crop = find_crop(result, None if case.truth is None else case.truth.color, self.side_px)
        ordered = sorted(lines, key=lambda name: name == TRUTH)  # from left to right: input to truth
        self._cuts[case.name] = {labels[name]: lines[name].image.convert("RGB").crop(crop.corners) for name in ordered}

    def sheet(self, rows: Sequence[Row], label: str, count: int, *, columns: int = 0) -> PIL.Image.Image:
        """The chosen pictures below each other (`pick_pictures`), enlarged a whole number of times to about 256 pixels.

        label: how the captions call who is judged. columns: at most that many crops side by side, the others below
        them; 0 for all.
        """
        stacked = []
        for name, why in pick_pictures(rows, self.judged, count).items():
            cuts = self._cuts[name]
            side = next(iter(cuts.values())).width
            whole = Box(0, 0, side, side)
            caption = f"{name} ({label}, {why})" if why else name
            labels, step = list(cuts), columns or len(cuts)
            for start in range(0, len(labels), step):
                shown = {each: cuts[each] for each in labels[start : start + step]}
                stacked.append(("" if start else caption, shown, whole))
        return stack_rows(stacked, tile_px=self.side_px * max(1, round(TILE_PX / self.side_px)))


def find_crop(result: Tensor, truth: Tensor | None, side_px: int) -> Box:
    """The square where the result is furthest from the truth, or without one, where it has the most detail.

    result, truth: (1, 3, H, W) in [-1, 1]. The square has at most the picture's shorter side.
    """
    height, width = result.shape[-2:]
    side_px = min(side_px, height, width)
    if truth is None:
        grey = result.mean(dim=1, keepdim=True)
        weight = F.pad(grey.diff(dim=-1).abs(), (0, 1)) + F.pad(grey.diff(dim=-2).abs(), (0, 0, 0, 1))
    else:
        weight = (result - truth).abs().mean(dim=1, keepdim=True)
    stride = max(1, side_px // 8)
    means = F.avg_pool2d(weight, side_px, stride=stride)[0, 0]  # (rows, columns)
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return Box(column * stride, row * stride, side_px, side_px)


def stack_rows(
    rows: Sequence[tuple[str, Mapping[str, PIL.Image.Image], Box]], *, tile_px: int = TILE_PX
) -> PIL.Image.Image:
    """One row a picture: a caption, then the same crop of every result, enlarged pixel by pixel.

    rows: (caption, label => RGB picture, crop); without a caption a row goes on with the one above. Raises ValueError
    for no rows.
    """
    if not rows:
        raise ValueError("There is nothing to show; give at least one picture.")
    line_px = max(12, tile_px // 16) * 2
    sheets = [crops_sheet(pictures, [crop], tile_px=tile_px) for _, pictures, crop in rows]
    heights = [sheet.height + line_px * bool(caption) for (caption, _, _), sheet in zip(rows, sheets, strict=True)]
    whole = PIL.Image.new("RGB", (max(sheet.width for sheet in sheets), sum(heights)), PAPER)
    pen, font, top = ImageDraw.Draw(whole), label_font(line_px // 2), 0
    for (caption, _, _), sheet, height in zip(rows, sheets, heights, strict=True):
        pen.text((8, top + line_px / 2), caption, fill=INK, font=font, anchor="lm")
        whole.paste(sheet, (0, top + height - sheet.height))
        top += height
    return whole


def plot_intervals(rows: Sequence[Row], headings: Mapping[str, str], title: str) -> Figure:
    """One panel a metric: every restorer's mean and its 95% interval. Drawn without pyplot's global state.

    Raises ValueError where no restorer has a figure.
    """
    from matplotlib.figure import Figure

    summary = {name: of_one for name, of_one in summarise(rows).items() if of_one}
    labels = {row.restorer: row.label for row in rows if row.restorer in summary}
    shown = [name for name in METRICS if any(name in of_one for of_one in summary.values())]
    if not shown:
        raise ValueError("There is nothing to plot; score the pictures with at least one metric.")
    columns = min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.2 * columns, 0.9 + (0.7 + 0.28 * len(labels)) * lines), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for place, (panel, metric) in enumerate(zip(panels, shown, strict=False)):
        for at, of_one in enumerate(summary.values()):
            if metric not in of_one:
                continue
            one = of_one[metric]
            panel.plot([one.low, one.high], [at, at], color=ACCENT, linewidth=2)
            panel.plot(one.mean, at, "o", color=ACCENT, markersize=5)
        first = place % columns == 0
        panel.set_yticks(range(len(labels)), list(labels.values()) if first else [""] * len(labels))
        panel.set_ylim(len(labels) - 0.5, -0.5)
        panel.set_title(headings[metric], fontsize="small", color=INK)
        panel.grid(visible=True, axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure


QUALITIES = (90, 85, 80, 75, 70, 65, 60, 50, 40, 30)
"""Of WebP, tried from the best until the picture fits its share."""


def to_webp(picture: Image.Image, budget_bytes: int) -> bytes:
    """The picture as WebP of the best quality that fits, of the least where none does."""
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.convert("RGB").save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= budget_bytes:
            break
    return file.getvalue()

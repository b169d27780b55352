"""Pictures of an evaluation: crops side by side, the worst cases included, and intervals as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import PIL.Image
import torch.nn.functional as F
from PIL import ImageDraw
from torch import Tensor

from gendrpix.plots import ACCENT, INK, PAPER, Crop, crops_sheet, label_font
from gendrpix.scores import METRICS
from training.tables import Row, by_restorer, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKED_BY = ("lpips", "psnr", "piqe", "niqe")
"""By which metric cases are called bad: the first that was computed."""


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


def find_crop(result: Tensor, truth: Tensor | None, side_px: int) -> Crop:
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
    return Crop(left=column * stride, top=row * stride, side_px=side_px)


def stack_rows(
    rows: Sequence[tuple[str, Mapping[str, PIL.Image.Image], Crop]], *, tile_px: int = 256
) -> PIL.Image.Image:
    """One row a picture: a caption, then the same crop of every result, enlarged pixel by pixel.

    rows: (caption, label => RGB picture, crop). Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("There is nothing to show; give at least one picture.")
    caption_px = max(12, tile_px // 16) * 2
    sheets = [crops_sheet(pictures, [crop], tile_px=tile_px) for _, pictures, crop in rows]
    width = max(sheet.width for sheet in sheets)
    whole = PIL.Image.new("RGB", (width, sum(sheet.height + caption_px for sheet in sheets)), PAPER)
    pen, font, top = ImageDraw.Draw(whole), label_font(caption_px // 2), 0
    for (caption, _, _), sheet in zip(rows, sheets, strict=True):
        pen.text((8, top + caption_px / 2), caption, fill=INK, font=font, anchor="lm")
        whole.paste(sheet, (0, top + caption_px))
        top += sheet.height + caption_px
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

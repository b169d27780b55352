"""Figures: the same crops of several pictures side by side, and quality against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from gendrpix.files import written_beside
from gendrpix.metrics.registry import find_metric
from gendrpix.specs import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = "#ffffff"
INK = "#1f2430"
ACCENT = "#3757c4"


def crops_sheet(
    pictures: Mapping[str, Image.Image], crops: Sequence[Box], *, tile_px: int = 256, gap_px: int = 8
) -> Image.Image:
    """One column a picture, its label above; one row a crop, enlarged to `tile_px` pixel by pixel (no smoothing).

    pictures: label => RGB, all of one size. Raises ValueError for none, for different sizes, or for a crop that
    reaches beyond them.
    """
    check_crops(pictures, crops)
    font = label_font(max(12, tile_px // 16))
    label_px = max(12, tile_px // 16) * 2
    width = gap_px + len(pictures) * (tile_px + gap_px)
    height = label_px + len(crops) * (tile_px + gap_px)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (label, picture) in enumerate(pictures.items()):
        x = gap_px + column * (tile_px + gap_px)
        draw.text((x + tile_px / 2, label_px / 2), label, fill=INK, font=font, anchor="mm")
        for row, crop in enumerate(crops):
            tile = picture.convert("RGB").crop(crop.corners)
            method = Image.Resampling.NEAREST if crop.width <= tile_px else Image.Resampling.LANCZOS
            sheet.paste(tile.resize((tile_px, tile_px), method), (x, label_px + row * (tile_px + gap_px)))
    return sheet


def label_font(size_px: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font: Pillow's lacks the Greek letters of the labels."""
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size_px)


def check_crops(pictures: Mapping[str, Image.Image], crops: Sequence[Box]) -> None:
    """Raise ValueError unless there are pictures of one size that hold all the crops."""
    sizes = {picture.size for picture in pictures.values()}
    if len(sizes) != 1 or not crops:
        raise ValueError(
            f"A sheet needs pictures of one size and at least one crop; got the sizes {sorted(sizes)} and "
            f"{len(crops)} crops."
        )
    width, height = sizes.pop()
    for crop in crops:
        left, top, right, bottom = crop.corners
        if crop.width < 1 or left < 0 or top < 0 or right > width or bottom > height:
            raise ValueError(
                f"The crop {crop.corners} reaches beyond the pictures, {width} x {height}; choose one within."
            )


@dataclass(frozen=True, kw_only=True)
class Point:
    """One restorer in the plot of quality against time."""

    label: str
    seconds: float
    value: float


def plot_quality(points: Sequence[Point], metric: str, *, conditions: str = "") -> Figure:
    """Quality against time (logarithmic), one labelled point a restorer; `conditions` names size, device and dtype.

    Drawn without pyplot, so that no global state is touched and threads may draw at once.
    Raises ValueError for no points or an unknown metric.
    """
    from matplotlib.figure import Figure

    spec = find_metric(metric)
    if not points:
        raise ValueError("There is nothing to plot; give at least one point.")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter([point.seconds for point in points], [point.value for point in points], color=ACCENT, s=48, zorder=3)
    for point in points:
        axes.annotate(point.label, (point.seconds, point.value), xytext=(8, 6), textcoords="offset points", color=INK)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.2)
    axes.set_xlabel("seconds a picture" + (f" ({conditions})" if conditions else ""))
    axes.set_ylabel(f"{spec.heading} ({spec.direction})")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or SVG, by the suffix. Raises PictureError where it cannot be written."""
    with written_beside(path, overwrite=True) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=160)

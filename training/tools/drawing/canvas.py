"""A canvas larger than its picture: shapes are drawn big and reduced once, so that their edges are smooth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.tools.drawing.fonts import load_font

Points = NDArray[np.float64]
"""(N, 2): x and y in pixels of the finished picture."""
Color = tuple[int, int, int]

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
SMOOTHING = 4
"""Enlargement at which the shapes of a canvas with factor 1 are drawn."""


class Canvas:
    """A picture in the making. All lengths are pixels of the finished picture; fractions are welcome.

    With factor 1 letters are set as a screen sets them, and only slanted and curved shapes are smoothed.
    """

    def __init__(self, width: int, height: int, factor: int, color: Color = WHITE) -> None:
        self.width, self.height, self.factor = width, height, factor
        self.image = Image.new("RGB", (width * factor, height * factor), color)
        self.pen = ImageDraw.Draw(self.image)

    def scaled(self, points: Points) -> list[tuple[float, float]]:
        """Points in pixels of the large image."""
        return [(float(x), float(y)) for x, y in np.asarray(points, dtype=np.float64) * self.factor]

    def smoothly(self, area: tuple[float, float, float, float], color: Color, draw: Callable[[Canvas], None]) -> None:
        """Let `draw` draw in white on a canvas of its own, enlarged, and cover that part of this one with a colour.

        Area: left, top, right, bottom in pixels; `draw` sees the whole picture's coordinates less (left, top), rounded.
        """
        left, top = math.floor(area[0]) - 1, math.floor(area[1]) - 1
        width, height = math.ceil(area[2]) + 1 - left, math.ceil(area[3]) + 1 - top
        cover = Canvas(max(1, width), max(1, height), SMOOTHING, BLACK)
        draw(cover)
        self.image.paste(color, (left, top), cover.finish().convert("L"))

    def polygon(self, corners: Points, color: Color) -> None:
        """A filled polygon."""
        if self.factor > 1:
            self.pen.polygon(self.scaled(corners), fill=color)
            return
        area, origin = bounds(corners)
        self.smoothly(area, color, lambda cover: cover.polygon(corners - origin, WHITE))

    def line(self, way: Points, width: float, color: Color) -> None:
        """A polyline with round joints, its width constant."""
        upright = bool((np.diff(way, axis=0) == 0).any(axis=1).all())
        if self.factor > 1 or upright:
            self.pen.line(self.scaled(way), fill=color, width=max(1, round(width * self.factor)), joint="curve")
            return
        area, origin = bounds(way, width)
        self.smoothly(area, color, lambda cover: cover.line(way - origin, width, WHITE))

    def stroke(self, way: Points, widths: Sequence[float] | Points, color: Color) -> None:
        """A pen's stroke: a polyline whose width changes from point to point, with round ends."""
        at, widths = dense(np.asarray(way, dtype=np.float64) * self.factor, np.asarray(widths, dtype=np.float64))
        radii = np.maximum(0.5, widths * self.factor / 2)
        along = np.gradient(at, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) * radii[:, None]
        left, right = at + across, at - across
        for first in range(len(at) - 1):
            corners = (left[first], left[first + 1], right[first + 1], right[first])
            self.pen.polygon([(float(x), float(y)) for x, y in corners], fill=color)
        inner = 0.93 * radii  # fills sharp turns without touching the smooth sides
        inner[[0, -1]] = radii[[0, -1]]
        for (x, y), radius in zip(at, inner, strict=True):
            self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def ellipse(
        self,
        x: float,
        y: float,
        radius_x: float,
        radius_y: float,
        color: Color | None,
        outline: Color | None = None,
        width: float = 0.0,
    ) -> None:
        """An ellipse around (x, y), filled, outlined or both."""
        if self.factor == 1:
            area = (x - radius_x, y - radius_y, x + radius_x, y + radius_y)
            u, v = x - math.floor(area[0]) + 1, y - math.floor(area[1]) + 1
            if color is not None:
                self.smoothly(area, color, lambda cover: cover.ellipse(u, v, radius_x, radius_y, WHITE))
            if outline is not None:
                self.smoothly(area, outline, lambda cover: cover.ellipse(u, v, radius_x, radius_y, None, WHITE, width))
            return
        f = self.factor
        box = ((x - radius_x) * f, (y - radius_y) * f, (x + radius_x) * f, (y + radius_y) * f)
        self.pen.ellipse(box, fill=color, outline=outline, width=round(width * f))

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        color: Color | None,
        *,
        radius: float = 0.0,
        outline: Color | None = None,
        width: float = 0.0,
    ) -> None:
        """A rectangle, its corners rounded by `radius`. With factor 1 its sides stand on whole pixels."""
        if self.factor == 1 and radius > 0:
            left, top, right, bottom = (float(round(side)) for side in (left, top, right, bottom))
            x, y, area = right - left + 1, bottom - top + 1, (left, top, right, bottom)
            if color is not None:
                self.smoothly(area, color, lambda cover: cover.box(1, 1, x, y, WHITE, radius=radius))
            if outline is not None:
                rim: dict[str, Any] = {"outline": WHITE, "width": width}
                self.smoothly(area, outline, lambda cover: cover.box(1, 1, x, y, None, radius=radius, **rim))
            return
        f = self.factor
        area = (left * f, top * f, max(right * f - 1, left * f), max(bottom * f - 1, top * f))
        rim_px = max(1, round(width * f)) if outline else 0
        self.pen.rounded_rectangle(area, radius * f, fill=color, outline=outline, width=rim_px)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        font: Path,
        size: float,
        color: Color,
        *,
        anchor: str = "la",
        rim: float = 0.0,
        rim_color: Color | None = None,
        spacing: float = 4.0,
    ) -> None:
        """Words at (x, y), `size` pixels to the em; `rim` pixels of outline around the letters."""
        f = self.factor
        face = load_font(font, round(size * f))
        if "\n" in words:
            self.pen.multiline_text(
                (x * f, y * f),
                words,
                fill=color,
                font=face,
                anchor=anchor,
                align="center",
                spacing=spacing * f,
                stroke_width=round(rim * f),
                stroke_fill=rim_color,
            )
            return
        self.pen.text(
            (x * f, y * f),
            words,
            fill=color,
            font=face,
            anchor=anchor,
            stroke_width=round(rim * f),
            stroke_fill=rim_color,
        )

    def text_width(self, words: str, font: Path, size: float) -> float:
        """Width of a line of text in pixels."""
        return load_font(font, round(size * self.factor)).getlength(words) / self.factor

    def wrapped(self, words: str, font: Path, size: float, width: float) -> list[str]:
        """The words in lines of at most that width; a longer word has a line of its own."""
        lines: list[str] = []
        for word in words.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.text_width(longer, font, size) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def paste(self, image: Image.Image, mask: Image.Image | None = None, left: float = 0, top: float = 0) -> None:
        """An image of the large scale over the canvas."""
        self.image.paste(image, (round(left * self.factor), round(top * self.factor)), mask)

    def finish(self, resampling: Image.Resampling = Image.Resampling.BOX) -> Image.Image:
        """The picture, reduced from the large image."""
        if self.factor == 1:
            return self.image
        return self.image.resize((self.width, self.height), resampling)


# Lines and colours ------------------------------------------------------------------------------------------


def bounds(way: Points, width: float = 0.0) -> tuple[tuple[float, float, float, float], Points]:
    """Left, top, right and bottom of points with a margin, and the origin of `Canvas.smoothly`'s own canvas."""
    low, high = way.min(axis=0) - width, way.max(axis=0) + width
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1])), np.floor(low) - 1


def points(*pairs: tuple[float, float]) -> Points:
    """Points from pairs of x and y."""
    return np.array(pairs, dtype=np.float64)


def dense(way: Points, widths: Points, longest: float = 8.0) -> tuple[Points, Points]:
    """A polyline with points put between those that are more than `longest` apart, and their widths."""
    lengths = np.hypot(*np.diff(way, axis=0).T)
    counts = np.maximum(1, np.ceil(lengths / longest)).astype(int)
    at = np.concatenate([*(i + np.arange(count) / count for i, count in enumerate(counts)), [len(way) - 1.0]])
    numbers = np.arange(len(way))
    both = np.stack([np.interp(at, numbers, way[:, axis]) for axis in (0, 1)], axis=1)
    return both, np.interp(at, numbers, widths)


def curve(through: Points, *, closed: bool = False, steps: int = 14) -> Points:
    """A smooth curve through points: a Catmull-Rom spline, `steps` points for each piece."""
    p = np.asarray(through, dtype=np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    if not closed:
        pieces.append(p[-2:-1])
    return np.concatenate(pieces)


def swelling(count: int, widest: float, thinnest: float = 0.4) -> Points:
    """Widths of an ink stroke that begins and ends thin."""
    return thinnest + (widest - thinnest) * np.sin(np.linspace(0, np.pi, count)) ** 0.7


def blob(
    rng: np.random.Generator,
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    corners: int = 9,
    wobble: float = 0.2,
) -> Points:
    """A closed smooth outline around (x, y)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = 1 + rng.uniform(-wobble, wobble, corners)
    around = np.stack([x + radius_x * reach * np.cos(angles), y + radius_y * reach * np.sin(angles)], axis=1)
    return curve(around, closed=True)


def random_color(rng: np.random.Generator, lightness: tuple[float, float] = (0.0, 1.0), vivid: float = 1.0) -> Color:
    """A colour of any hue, its lightness in the range, its chroma at most `vivid` of what is possible."""
    hue, light = rng.uniform(0, 6), rng.uniform(*lightness)
    chroma = (1 - abs(2 * light - 1)) * vivid * rng.uniform(0.4, 1)
    base = np.clip([abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4)], 0, 1) - 0.5
    red, green, blue = (round(255 * float(np.clip(light + chroma * part, 0, 1))) for part in base)
    return red, green, blue


def as_image(levels: NDArray[np.float64]) -> Image.Image:
    """(H, W) or (H, W, 3) levels, clamped to 0 to 255, as an image."""
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def gradient(width: int, height: int, first: Color, second: Color, angle: float) -> Image.Image:
    """A linear gradient between two colours along an angle in radians."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    along = x * np.cos(angle) + y * np.sin(angle)
    share = ((along - along.min()) / max(np.ptp(along), 1e-6))[..., None]
    return as_image(np.round((1 - share) * np.array(first) + share * np.array(second)))


def halftone(tone: NDArray[np.float64], period: float, angle: float) -> Image.Image:
    """Printed dots: (H, W) tone from 0 (paper) to 1 (ink) => an "L" mask of dots `period` pixels apart."""
    y, x = np.mgrid[: tone.shape[0], : tone.shape[1]] * (2 * np.pi / period)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    height = (2 - np.cos(u) - np.cos(v)) / 4  # 0 at a dot's centre, 1 between four dots
    return as_image(255.0 * (height < tone))


def noise_field(rng: np.random.Generator, width: int, height: int, cells: int) -> NDArray[np.float64]:
    """(height, width) smooth noise in [0, 1], about `cells` hills along a side."""
    coarse = Image.fromarray(rng.random((cells + 3, cells + 3)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64), 0, 1)

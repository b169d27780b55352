"""Line art: flowers, leaves and doodles in ink, hatching, plans, and diagrams of boxes and arrows."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from training.tools.drawing.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Color,
    Points,
    blob,
    curve,
    points,
    random_color,
    swelling,
)
from training.tools.drawing.fonts import Fonts, number_text, phrase


def draw_lineart(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """One of: an ink drawing, a plan with measures, a diagram, a pattern of lines."""
    dark = rng.random() < 0.15
    paper = WHITE if rng.random() < 0.6 else random_color(rng, (0.85, 0.97), 0.6)
    ink = BLACK if rng.random() < 0.7 else random_color(rng, (0.08, 0.35))
    canvas = Canvas(side, side, int(rng.choice([2, 3, 4])), ink if dark else paper)
    if dark:
        paper, ink = ink, paper
    draw = (draw_plants, draw_plan, draw_diagram, draw_pattern)[int(rng.integers(4))]
    draw(canvas, rng, fonts, paper, ink)
    return canvas.finish(Image.Resampling.LANCZOS if rng.random() < 0.5 else Image.Resampling.BOX)


def draw_plants(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """Stems with leaves and flowers, some of them coloured, over hatched ground."""
    side, pen = canvas.width, float(rng.uniform(1.2, 4))
    colored = rng.random() < 0.5
    for _ in range(int(rng.integers(5, 12))):
        x, top = rng.uniform(0.05, 0.95) * side, rng.uniform(0.05, 0.6) * side
        stem = curve(
            points(
                (x, side * 1.02),
                (x + rng.normal(0, 40), side * 0.8),
                (x + rng.normal(0, 60), side * 0.6),
                (x + rng.normal(0, 50), top),
            ),
            steps=20,
        )
        canvas.stroke(stem, np.linspace(pen * 1.3, pen * 0.5, len(stem)), ink)
        for at in rng.integers(8, len(stem) - 4, int(rng.integers(3, 10))):
            leaf_color = random_color(rng, (0.35, 0.7)) if colored else paper
            draw_leaf(canvas, rng, stem[at], float(rng.uniform(25, 110)), leaf_color, ink, pen)
        draw_flower(canvas, rng, stem[-1], float(rng.uniform(25, 90)), colored, paper, ink, pen)
    if rng.random() < 0.5:
        hatch(canvas, rng, side * 0.0, side * 0.9, side, side, ink, pen * 0.4)


def draw_leaf(
    canvas: Canvas, rng: np.random.Generator, foot: Points, length: float, color: Color, ink: Color, pen: float
) -> None:
    """A pointed leaf with a rib and side veins."""
    angle, broad = rng.uniform(-np.pi, 0.0), rng.uniform(0.12, 0.3)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    shape = [(0.0, 0.0), (0.3, broad), (0.7, broad * 0.8), (1.0, 0.0), (0.7, -broad * 0.8), (0.3, -broad)]
    outline = curve(np.stack([foot + length * (u * along + v * across) for u, v in shape]), closed=True)
    canvas.polygon(outline, color)
    canvas.stroke(np.concatenate([outline, outline[:1]]), np.full(len(outline) + 1, pen * 0.7), ink)
    canvas.line(np.stack([foot, foot + 0.95 * length * along]), pen * 0.5, ink)
    for u in np.linspace(0.2, 0.8, 6):
        for sign in (-1, 1):
            root = foot + u * length * along
            canvas.line(np.stack([root, root + length * (0.12 * along + sign * broad * 0.6 * across)]), pen * 0.3, ink)


def draw_flower(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: Points,
    radius: float,
    colored: bool,
    paper: Color,
    ink: Color,
    pen: float,
) -> None:
    """Petals around a dotted middle."""
    count, color = int(rng.integers(5, 13)), random_color(rng, (0.45, 0.8)) if colored else paper
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1):
        draw_at = centre + 0.6 * radius * np.array([np.cos(angle), np.sin(angle)])
        petal = blob(rng, 0, 0, radius * 0.5, radius * 0.9 / count * 2.2, 8, 0.08)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        outline = petal @ turn + draw_at
        canvas.polygon(outline, color)
        canvas.stroke(np.concatenate([outline, outline[:1]]), np.full(len(outline) + 1, pen * 0.6), ink)
    (x, y), middle = centre, random_color(rng, (0.5, 0.8)) if colored else paper
    canvas.ellipse(float(x), float(y), radius * 0.28, radius * 0.28, middle, ink, pen * 0.6)
    for dx, dy in rng.normal(0, radius * 0.1, (12, 2)):
        canvas.ellipse(centre[0] + dx, centre[1] + dy, pen * 0.4, pen * 0.4, ink)


def hatch(
    canvas: Canvas,
    rng: np.random.Generator,
    left: float,
    top: float,
    right: float,
    bottom: float,
    ink: Color,
    pen: float,
) -> None:
    """Slanted, slightly uneven strokes over an area."""
    slant = float(rng.uniform(0.2, 1.0)) * (bottom - top)
    for x in np.arange(left - slant, right, float(rng.uniform(3, 9))):
        low, high = bottom + rng.normal(0, 4), top + rng.normal(0, 8)
        canvas.line(points((x, low), (x + slant, high)), pen, ink)


def draw_plan(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """A floor plan or machine drawing: walls, circles, dashes, measures with arrows, hatching."""
    side, pen, font = canvas.width, float(rng.uniform(0.8, 2)), fonts.choose(rng)
    if rng.random() < 0.5:
        for at in np.arange(0, side, float(rng.choice([16, 24, 32]))):
            faint = tuple((3 * p + i) // 4 for p, i in zip(paper, ink, strict=True))
            canvas.line(points((at, 0), (at, side)), 0.5, faint)  # type: ignore[arg-type]
            canvas.line(points((0, at), (side, at)), 0.5, faint)  # type: ignore[arg-type]
    xs, ys = (np.sort(rng.uniform(0.04, 0.96, 9)) * side for _ in range(2))
    for _ in range(int(rng.integers(14, 30))):
        i, j = np.sort(rng.choice(9, 2, replace=False)), np.sort(rng.choice(9, 2, replace=False))
        left, right, top, bottom = (float(v) for v in (xs[i[0]], xs[i[1]], ys[j[0]], ys[j[1]]))
        if rng.random() < 0.3:
            canvas.box(left, top, right, bottom, paper, outline=ink, width=pen * 2.5)
            hatch(canvas, rng, left, max(top, bottom - 40), right, bottom, ink, pen * 0.5)
        elif rng.random() < 0.5:
            x, y, radius = (left + right) / 2, (top + bottom) / 2, min(right - left, bottom - top) / 2
            for share in (1.0, 0.6, 0.25):
                canvas.ellipse(x, y, radius * share, radius * share, None, ink, pen)
            dashes(canvas, points((x - 1.2 * radius, y), (x + 1.2 * radius, y)), pen * 0.6, ink)
            dashes(canvas, points((x, y - 1.2 * radius), (x, y + 1.2 * radius)), pen * 0.6, ink)
        else:
            canvas.line(points((left, top), (right, top), (right, bottom), (left, bottom)), pen * 2, ink)
        size = float(rng.uniform(9, 16))
        arrow(canvas, points(((left + right) / 2, top - 8), (right, top - 8)), pen * 0.6, ink)
        arrow(canvas, points(((left + right) / 2, top - 8), (left, top - 8)), pen * 0.6, ink)
        canvas.text((left + right) / 2, top - 10, number_text(rng), font, size, ink, anchor="md")
    canvas.box(side * 0.62, side * 0.86, side * 0.98, side * 0.98, paper, outline=ink, width=pen)
    for row in range(3):
        y = side * (0.875 + 0.035 * row)
        canvas.text(side * 0.63, y, phrase(rng, int(rng.integers(2, 4))), font, side * 0.02, ink)
        canvas.line(points((side * 0.62, y + side * 0.025), (side * 0.98, y + side * 0.025)), pen * 0.5, ink)


def dashes(canvas: Canvas, ends: Points, pen: float, ink: Color, dash: float = 6.0) -> None:
    """A dashed line between two points."""
    length = max(1.0, float(np.hypot(*(ends[1] - ends[0]))))
    for start in np.arange(0, length, 2 * dash):
        shares = np.array([start, min(start + dash, length)])[:, None] / length
        canvas.line(ends[0] + shares * (ends[1] - ends[0]), pen, ink)


def arrow(canvas: Canvas, way: Points, pen: float, ink: Color) -> None:
    """A line with a filled head at its end."""
    canvas.line(way, pen, ink)
    step = way[-1] - way[-2]
    along = step / max(1e-6, float(np.hypot(*step)))
    across, size = np.array([-along[1], along[0]]), 4 + 3 * pen
    canvas.polygon(
        np.stack([way[-1], way[-1] - size * (along + 0.4 * across), way[-1] - size * (along - 0.4 * across)]), ink
    )


def draw_diagram(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """Boxes, ovals and diamonds with words, joined by arrows."""
    side, pen, font = canvas.width, float(rng.uniform(1, 3)), fonts.choose(rng)
    count = int(rng.integers(4, 8))
    cell = side / count
    size = cell * float(rng.uniform(0.08, 0.13))
    fill = random_color(rng, (0.75, 0.95)) if rng.random() < 0.6 else paper
    centres = [((c + 0.5) * cell, (r + 0.5) * cell) for r in range(count) for c in range(count) if rng.random() < 0.8]
    for (x, y), (u, v) in itertools.pairwise(centres):
        bent = points((x, y), (x, v - 0.38 * cell), (u, v - 0.38 * cell), (u, v - 0.27 * cell))
        arrow(canvas, bent, pen, ink)
    for x, y in centres:
        half_x, half_y, kind = 0.4 * cell, 0.25 * cell, int(rng.integers(4))
        if kind == 0:
            canvas.ellipse(x, y, half_x, half_y, fill, ink, pen)
        elif kind == 1:
            diamond = points((x - half_x, y), (x, y - half_y), (x + half_x, y), (x, y + half_y))
            canvas.polygon(diamond, fill)
            canvas.line(np.concatenate([diamond, diamond[:2]]), pen, ink)
        else:
            box = (x - half_x, y - half_y, x + half_x, y + half_y)
            canvas.box(*box, fill, radius=0 if kind == 2 else 10, outline=ink, width=pen)
        small = size * (0.75 if kind == 1 else 1.0)
        lines = canvas.wrapped(phrase(rng, int(rng.integers(1, 5))), font, small, half_x * (1.0 if kind == 1 else 1.7))
        dark = BLACK if sum(fill) > 380 else WHITE
        canvas.text(x, y, "\n".join(lines[:3]), font, small, dark, anchor="mm")


def draw_pattern(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """Fans of straight lines, rings, waves and grids in four fields."""
    half = canvas.width / 2
    for left in (0.0, half):
        for top in (0.0, half):
            field = Canvas(round(half), round(half), canvas.factor, paper)
            kind, pen, count = int(rng.integers(4)), float(rng.uniform(0.7, 4)), int(rng.integers(8, 40))
            color = ink if rng.random() < 0.7 else random_color(rng, (0.2, 0.6))
            for number in range(count):
                share = (number + 0.5) / count
                if kind == 0:
                    angle = np.pi * share
                    field.line(
                        points(
                            (half / 2, half), (half / 2 + half * 1.2 * np.cos(angle), half - half * 1.2 * np.sin(angle))
                        ),
                        pen,
                        color,
                    )
                elif kind == 1:
                    field.ellipse(
                        half / 2,
                        half / 2,
                        half * 0.7 * share,
                        half * 0.7 * share,
                        None,
                        color,
                        min(pen, 0.4 * half / count),
                    )
                elif kind == 2:
                    xs = np.linspace(0, half, 60)
                    wave = half * share + half * 0.06 * np.sin(xs / half * 2 * np.pi * (1 + kind + count / 12))
                    field.stroke(np.stack([xs, wave], axis=1), swelling(60, pen, 0.8), color)
                else:
                    slope = half * float(rng.uniform(0.97, 1.03))
                    field.line(points((half * share * 2 - half, 0), (half * share * 2, slope)), pen, color)
            canvas.paste(field.image, left=left, top=top)

"""Printed matter: pages of text in many sizes, weights, scripts, colours and turns."""

from __future__ import annotations

import numpy as np
from PIL import Image

from training.tools.drawing.canvas import BLACK, WHITE, Canvas, Color, points, random_color
from training.tools.drawing.fonts import Fonts, Script, phrase


def draw_page(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """A page: columns of text, a poster of mixed words, or a turned cutting of one."""
    paper, ink = page_colors(rng)
    kind = rng.random()
    turned = rng.random() < 0.4
    inner = side + side // 2 if turned else side
    canvas = Canvas(inner, inner, 2 if turned else int(rng.choice([1, 3])), paper)
    if kind < 0.6:
        draw_columns(canvas, rng, fonts, paper, ink)
    elif kind < 0.85:
        draw_poster(canvas, rng, fonts, paper, ink)
    else:
        draw_sizes(canvas, rng, fonts, ink)
    if not turned:
        return canvas.finish()
    # reduced only after the turn, so that letters are resampled once
    large = canvas.image.rotate(float(rng.normal(0, 8)), Image.Resampling.BICUBIC, fillcolor=paper)
    cut = (inner - side) // 2 * canvas.factor
    return large.crop((cut, cut, cut + side * canvas.factor, cut + side * canvas.factor)).resize(
        (side, side), Image.Resampling.BOX
    )


def page_colors(rng: np.random.Generator) -> tuple[Color, Color]:
    """Paper and ink: mostly dark on white or cream, sometimes light on dark, or two colours."""
    kind = rng.random()
    if kind < 0.5:
        return WHITE, BLACK
    if kind < 0.7:
        return random_color(rng, (0.88, 0.97), 0.7), random_color(rng, (0.02, 0.2), 0.6)
    if kind < 0.85:
        return random_color(rng, (0.03, 0.2), 0.6), random_color(rng, (0.85, 1.0))
    return random_color(rng, (0.7, 0.92)), random_color(rng, (0.1, 0.35))


def pick_script(rng: np.random.Generator, fonts: Fonts) -> Script:
    """Latin mostly; else one of the scripts that the fonts write."""
    others = [script for script in fonts.scripts() if script != "latin"]
    if not others or rng.random() < 0.75:
        return "latin"
    return others[int(rng.integers(len(others)))]


def draw_columns(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """A headline and one to three columns of paragraphs, as in a newspaper or a book."""
    side = canvas.width
    script = pick_script(rng, fonts)
    text_font, head_font = fonts.choose(rng, script=script), fonts.choose(rng, "bold", script)
    size = float(rng.choice([10, 13, 16, 20, 26, 34, 46, 64]) * rng.uniform(0.9, 1.1))
    margin, gap = side * 0.05, side * 0.04
    top = margin
    if rng.random() < 0.8:
        head_size = size * rng.uniform(1.8, 4)
        accent = ink if rng.random() < 0.6 else random_color(rng, (0.25, 0.5))
        for line in canvas.wrapped(phrase(rng, int(rng.integers(2, 7)), script), head_font, head_size, side - margin):
            canvas.text(margin, top, line, head_font, head_size, accent)
            top += head_size * 1.15
        if rng.random() < 0.5:
            canvas.line(points((margin, top + 4), (side - margin, top + 4)), rng.uniform(0.7, 3), ink)
        top += size
    columns = 1 if size > 22 else int(rng.integers(1, 4))
    width = (side - 2 * margin - (columns - 1) * gap) / columns
    for column in range(columns):
        left, y = margin + column * (width + gap), top
        while y < side - margin - size:
            lines = canvas.wrapped(phrase(rng, int(rng.integers(12, 60)), script), text_font, size, width)
            if script == "han":  # no spaces: cut into lines by number of characters
                run, fit = "".join(lines), max(2, int(width / size))
                lines = [run[start : start + fit] for start in range(0, len(run), fit)]
            for line in lines:
                if y > side - margin - size:
                    break
                canvas.text(left, y, line, text_font, size, ink)
                y += size * 1.3
            y += size * 0.7
            if rng.random() < 0.15 and y < side * 0.8:
                y = draw_figure_block(canvas, rng, left, y, width, paper, ink) + size


def draw_figure_block(
    canvas: Canvas, rng: np.random.Generator, left: float, top: float, width: float, paper: Color, ink: Color
) -> float:
    """A framed block with stripes in the place of a picture; gives back its lower edge."""
    height = min(width * rng.uniform(0.3, 0.6), canvas.height - top - 10)
    canvas.box(left, top, left + width, top + height, random_color(rng, (0.4, 0.8)), outline=ink, width=1.5)
    for number in range(1, int(rng.integers(3, 12))):
        y = top + height * number / 12
        canvas.line(points((left + 6, y), (left + width * rng.uniform(0.4, 0.97), y)), rng.uniform(0.6, 3), paper)
    return top + height


def draw_poster(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, paper: Color, ink: Color) -> None:
    """Words from huge to tiny, one under the other, some in boxes."""
    side, y = canvas.width, canvas.width * 0.03
    while y < side * 0.93:
        script = pick_script(rng, fonts)
        font = fonts.choose(rng, "bold" if rng.random() < 0.5 else "any", script)
        words = phrase(rng, int(rng.integers(1, 6)), script)
        if rng.random() < 0.4 and script != "han":
            words = words.upper()
        size = min(float(rng.uniform(0.02, 0.2)) * side, 40 * side * 0.9 / max(canvas.text_width(words, font, 40), 1))
        color = ink if rng.random() < 0.6 else random_color(rng, (0.2, 0.6))
        if rng.random() < 0.25:
            canvas.box(
                0 if rng.random() < 0.5 else side * 0.03, y, side * 0.97, y + size * 1.35, color, radius=size * 0.2
            )
            color = paper
        canvas.text(side / 2, y + size * 0.65, words, font, size, color, anchor="mm")
        y += size * 1.45


def draw_sizes(canvas: Canvas, rng: np.random.Generator, fonts: Fonts, ink: Color) -> None:
    """Lines of text that shrink downwards, as on an eye chart or a font's specimen."""
    side, y, size = canvas.width, canvas.width * 0.04, canvas.width * float(rng.uniform(0.1, 0.2))
    font = fonts.choose(rng)
    while size > 5 and y < side * 0.95:
        words = phrase(rng, max(1, int(side / size / 3)))
        canvas.text(side * 0.04, y, words, font, size, ink)
        y += size * 1.3
        size *= float(rng.uniform(0.7, 0.95))
        if rng.random() < 0.5:
            font = fonts.choose(rng)

"""Screens: windows with menus, buttons, icons, tables, forms, chats, terminals and program text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.tools.drawing.canvas import BLACK, WHITE, Canvas, Color, gradient, points, random_color
from training.tools.drawing.fonts import Fonts, number_text, phrase

KEYWORDS = ("def", "return", "for", "if", "else:", "import", "class", "while", "with", "lambda", "const", "let", "in")


@dataclass(frozen=True)
class Theme:
    """Colours, fonts and sizes of one screen."""

    dark: bool
    back: Color
    panel: Color
    text: Color
    faint: Color
    accent: Color
    font: Path
    mono: Path
    size: float
    """Pixels to the em of running text; every other length follows it."""
    radius: float


def draw_screen(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """A desktop with one to three windows; letters as a screen has them, without a reduction."""
    dark = bool(rng.random() < 0.4)
    level = (0.08, 0.2) if dark else (0.93, 1.0)
    theme = Theme(
        dark=dark,
        back=random_color(rng, level, 0.3),
        panel=random_color(rng, (0.15, 0.28) if dark else (0.82, 0.93), 0.3),
        text=random_color(rng, (0.85, 0.98) if dark else (0.0, 0.15), 0.2),
        faint=random_color(rng, (0.35, 0.5) if dark else (0.6, 0.75), 0.2),
        accent=random_color(rng, (0.4, 0.6)),
        font=fonts.choose(rng, "screen"),
        mono=fonts.choose(rng, "mono"),
        size=float(rng.choice([12, 13, 14, 16, 20, 26, 34])),
        radius=float(rng.choice([0, 3, 8])),
    )
    canvas = Canvas(side, side, 1, theme.panel)
    canvas.paste(
        gradient(side, side, random_color(rng, (0.2, 0.6)), random_color(rng, (0.4, 0.8)), float(rng.uniform(0, 3)))
    )
    for number in range(int(rng.integers(1, 4))):
        if number == 0:
            left, top, width, height = side * 0.02, side * 0.02, side * 0.96, side * 0.93
        else:
            width, height = side * float(rng.uniform(0.4, 0.7)), side * float(rng.uniform(0.3, 0.5))
            left, top = float(rng.uniform(0, side - width)), float(rng.uniform(0, side - height))
        draw_window(canvas, rng, theme, round(left), round(top), round(width), round(height))
    return canvas.finish()


def draw_window(
    canvas: Canvas, rng: np.random.Generator, theme: Theme, left: int, top: int, width: int, height: int
) -> None:
    """Title bar, menu, and one kind of content, cut off at the frame."""
    window = Canvas(width, height, 1, theme.back)
    bar, unit = round(theme.size * 2.2), theme.size
    window.box(0, 0, width, bar, theme.panel if rng.random() < 0.6 else theme.accent)
    window.text(unit, bar / 2, phrase(rng, 2), theme.font, unit, theme.text, anchor="lm")
    for number in range(3):
        x, round_buttons = width - unit * (1.2 + 1.8 * number), theme.radius > 0
        if round_buttons:
            window.ellipse(x, bar / 2, unit * 0.42, unit * 0.42, random_color(rng, (0.45, 0.6)))
        else:
            window.box(
                x - unit / 2, bar / 2 - unit / 2, x + unit / 2, bar / 2 + unit / 2, None, outline=theme.text, width=1
            )
    y = float(bar)
    if rng.random() < 0.7:
        x = unit
        for word in ("File", "Edit", "View", "Tools", "Window", "Help"):
            window.text(x, y + unit * 0.4, word, theme.font, unit, theme.text)
            x += window.text_width(word, theme.font, unit) + unit * 1.4
        y += unit * 2
    if rng.random() < 0.6:
        draw_toolbar(window, rng, theme, y)
        y += unit * 3
    draw = (draw_code, draw_table, draw_form, draw_chat, draw_files, draw_article)[int(rng.integers(6))]
    draw(window, rng, theme, y)
    window.box(0, 0, width, height, None, outline=theme.faint, width=1)
    canvas.paste(window.image, left=left, top=top)


def draw_toolbar(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """A row of icons."""
    unit = theme.size
    window.box(0, y, window.width, y + unit * 2.8, theme.panel)
    for x in np.arange(unit * 1.6, window.width - unit, unit * 2.4):
        draw_icon(window, rng, float(x), y + unit * 1.4, unit * 0.75, theme)


def draw_icon(window: Canvas, rng: np.random.Generator, x: float, y: float, r: float, theme: Theme) -> None:
    """One of a few simple signs around (x, y)."""
    color = theme.text if rng.random() < 0.6 else random_color(rng, (0.35, 0.65))
    pen, kind = max(1.0, r / 5), int(rng.integers(7))
    if kind == 0:
        window.box(x - r, y - r * 0.7, x + r, y + r * 0.8, color, radius=2)
        window.box(x - r, y - r, x - r * 0.1, y - r * 0.5, color, radius=1)
    elif kind == 1:
        window.ellipse(x - r * 0.2, y - r * 0.2, r * 0.6, r * 0.6, None, color, pen)
        window.line(points((x + r * 0.25, y + r * 0.25), (x + r, y + r)), pen, color)
    elif kind == 2:
        for shift in (-0.6, 0.0, 0.6):
            window.line(points((x - r, y + shift * r), (x + r, y + shift * r)), pen, color)
    elif kind == 3:
        window.polygon(points((x - r * 0.7, y - r), (x + r, y), (x - r * 0.7, y + r)), color)
    elif kind == 4:
        window.line(points((x - r, y), (x - r * 0.2, y + r * 0.8), (x + r, y - r * 0.8)), pen * 1.4, color)
    elif kind == 5:
        angles = np.linspace(0, 2 * np.pi, 10, endpoint=False) - np.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, r * 1.1, r * 0.45)
        window.polygon(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1), color)
    else:
        window.ellipse(x, y, r * 0.9, r * 0.9, None, color, pen)
        window.line(points((x, y - r * 0.5), (x, y), (x + r * 0.4, y)), pen, color)


def draw_code(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """Numbered lines of program text in colours, or a terminal's green or white on black."""
    unit, terminal = theme.size, rng.random() < 0.3
    shades = [random_color(rng, (0.6, 0.8) if theme.dark or terminal else (0.25, 0.45)) for _ in range(4)]
    plain: Color = theme.text
    if terminal:
        window.box(0, y, window.width, window.height, (8, 10, 8))
        plain = random_color(rng, (0.75, 0.95), 0.8)
    depth, number = 0, int(rng.integers(1, 400))
    while y < window.height - unit:
        x = unit * 0.5
        window.text(x, y, "$" if terminal else f"{number:4d}", theme.mono, unit, theme.faint)
        x += window.text_width("00000", theme.mono, unit)
        depth = int(np.clip(depth + rng.integers(-1, 2), 0, 4))
        x += depth * window.text_width("    ", theme.mono, unit)
        for _ in range(int(rng.integers(0, 8))):
            token, color = code_token(rng, shades, plain)
            window.text(x, y, token, theme.mono, unit, color)
            x += window.text_width(token + " ", theme.mono, unit)
        y += unit * 1.35
        number += 1


def code_token(rng: np.random.Generator, shades: list[Color], plain: Color) -> tuple[str, Color]:
    """A word of program text and its colour."""
    kind, word = int(rng.integers(6)), phrase(rng, 1).lower().strip(",.!?:;")
    if kind == 0:
        return str(rng.choice(KEYWORDS)), shades[0]
    if kind == 1:
        return f'"{phrase(rng, 2)}"', shades[1]
    if kind == 2:
        return number_text(rng), shades[2]
    if kind == 3:
        return f"{word}({word[:1]}, {int(rng.integers(99))})", shades[3]
    if kind == 4:
        return str(rng.choice(["=", "==", "+=", "->", "{", "}", "[i]", "&&", "!=", "<=", "#"])), plain
    return f"{word}_{int(rng.integers(9))}" if rng.random() < 0.4 else word, plain


def draw_table(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """A grid of words and numbers, a head line, every second line shaded, one chosen."""
    unit, columns = theme.size, int(rng.integers(3, 8))
    edges = np.cumsum([0.0, *rng.uniform(0.6, 1.4, columns)])
    edges = edges / edges[-1] * window.width
    numeric, row, chosen = rng.random(columns) < 0.5, 0, int(rng.integers(2, 14))
    high, ruled = unit * float(rng.uniform(1.6, 2.2)), rng.random() < 0.6
    while y < window.height:
        if row in (0, chosen) or row % 2 == 0:
            shade = theme.accent if row == chosen else theme.panel
            window.box(0, y, window.width, y + high, shade)
        for left, right, number in zip(edges, edges[1:], numeric, strict=False):
            words = number_text(rng) if number and row else phrase(rng, 1 if number else 2)
            if window.text_width(words, theme.font, unit) > right - left - unit:
                words = words[: max(1, int((right - left) / unit))]
            at, anchor = (right - unit * 0.4, "rm") if number else (left + unit * 0.4, "lm")
            window.text(at, y + high / 2, words, theme.font, unit, theme.text, anchor=anchor)
            if ruled:
                window.line(points((left, y), (left, y + high)), 1, theme.faint)
        if ruled:
            window.line(points((0, y), (window.width, y)), 1, theme.faint)
        y, row = y + high, row + 1


def draw_form(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """Labels with fields, ticks, sliders, bars and buttons."""
    unit, x = theme.size, theme.size * 1.5
    y += unit
    split = window.width * 0.35
    while y < window.height - unit * 3:
        window.text(x, y + unit, phrase(rng, 2), theme.font, unit, theme.text, anchor="lm")
        kind, right = int(rng.integers(5)), window.width - unit * 2
        if kind == 0:
            window.box(
                split,
                y,
                right,
                y + unit * 2,
                WHITE if not theme.dark else BLACK,
                radius=theme.radius,
                outline=theme.faint,
                width=1,
            )
            window.text(split + unit * 0.6, y + unit, phrase(rng, 2), theme.font, unit, theme.text, anchor="lm")
        elif kind == 1:
            for number in range(3):
                left = split + number * unit * 7
                window.box(
                    left,
                    y + unit * 0.4,
                    left + unit * 1.2,
                    y + unit * 1.6,
                    theme.back,
                    radius=min(3, theme.radius),
                    outline=theme.text,
                    width=1,
                )
                if rng.random() < 0.6:
                    tick = points(
                        (left + unit * 0.2, y + unit),
                        (left + unit * 0.5, y + unit * 1.4),
                        (left + unit, y + unit * 0.6),
                    )
                    window.line(tick, max(1.0, unit / 7), theme.accent)
                window.text(left + unit * 1.7, y + unit, phrase(rng, 1), theme.font, unit, theme.text, anchor="lm")
        elif kind == 2:
            at = float(rng.uniform(split, right))
            window.box(split, y + unit * 0.85, right, y + unit * 1.15, theme.faint, radius=2)
            window.box(split, y + unit * 0.85, at, y + unit * 1.15, theme.accent, radius=2)
            window.ellipse(at, y + unit, unit * 0.6, unit * 0.6, WHITE, theme.faint, 1)
        else:
            left = split
            for number in range(int(rng.integers(1, 4))):
                word = phrase(rng, 1).strip(",.!?:;")
                wide = window.text_width(word, theme.font, unit) + unit * 2
                solid = number == 0
                window.box(
                    left,
                    y,
                    left + wide,
                    y + unit * 2,
                    theme.accent if solid else theme.panel,
                    radius=theme.radius,
                    outline=theme.faint,
                    width=1,
                )
                window.text(
                    left + wide / 2, y + unit, word, theme.font, unit, WHITE if solid else theme.text, anchor="mm"
                )
                left += wide + unit
        y += unit * 3


def draw_chat(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """Bubbles of messages, left and right, with times."""
    unit = theme.size
    y += unit
    while y < window.height - unit * 4:
        mine, width = rng.random() < 0.5, window.width * float(rng.uniform(0.35, 0.6))
        lines = window.wrapped(phrase(rng, int(rng.integers(2, 24))), theme.font, unit, width - unit * 2)
        high = (len(lines) * 1.3 + 1.8) * unit
        left = window.width - width - unit if mine else unit * 3.5
        window.box(left, y, left + width, y + high, theme.accent if mine else theme.panel, radius=max(4, theme.radius))
        for row, line in enumerate(lines):
            window.text(
                left + unit, y + (0.6 + 1.3 * row) * unit, line, theme.font, unit, WHITE if mine else theme.text
            )
        window.text(
            left + width - unit * 0.6,
            y + high - unit * 0.9,
            number_text(rng),
            theme.font,
            unit * 0.7,
            theme.faint,
            anchor="rt",
        )
        if not mine:
            window.ellipse(unit * 1.8, y + unit * 1.2, unit * 1.2, unit * 1.2, random_color(rng, (0.3, 0.7)))
            window.text(unit * 1.8, y + unit * 1.2, phrase(rng, 1)[:1], theme.font, unit, WHITE, anchor="mm")
        y += high + unit * 0.8


def draw_files(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """A grid of large icons with names."""
    unit, cell = theme.size, theme.size * 7
    for top in np.arange(y + unit, window.height - cell * 0.6, cell):
        for left in np.arange(unit, window.width - cell * 0.8, cell):
            x, middle = float(left + cell / 2), float(top + cell * 0.35)
            draw_icon(window, rng, x, middle, unit * 1.9, theme)
            name = phrase(rng, 1).lower()[:9] + str(rng.choice([".txt", ".png", ".pdf", "", ".py"]))
            window.text(x, float(top + cell * 0.78), name, theme.font, unit * 0.9, theme.text, anchor="mm")


def draw_article(window: Canvas, rng: np.random.Generator, theme: Theme, y: float) -> None:
    """A page of the web: headings, paragraphs, links and boxes."""
    unit, x = theme.size, theme.size * 2
    while y < window.height:
        if rng.random() < 0.35:
            window.text(x, y + unit * 0.5, phrase(rng, 3), theme.font, unit * float(rng.uniform(1.4, 2.4)), theme.text)
            y += unit * 3.2
        for line in window.wrapped(phrase(rng, int(rng.integers(10, 50))), theme.font, unit, window.width - 2 * x):
            color = theme.accent if rng.random() < 0.08 else theme.text
            window.text(x, y, line, theme.font, unit, color)
            y += unit * 1.45
        y += unit
        if rng.random() < 0.3:
            window.box(x, y, window.width - x, y + unit * 6, random_color(rng, (0.3, 0.8)), radius=theme.radius)
            window.text(window.width / 2, y + unit * 3, phrase(rng, 2), theme.font, unit * 2, WHITE, anchor="mm")
            y += unit * 7

"""Comic pages: panels with inked, flatly coloured scenes, printed dots and speech balloons."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.tools.drawing.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Color,
    Points,
    blob,
    curve,
    gradient,
    halftone,
    points,
    random_color,
    swelling,
)
from training.tools.drawing.fonts import Fonts, phrase

FACTOR = 4
SKINS: tuple[Color, ...] = (
    (255, 224, 196),
    (244, 203, 170),
    (226, 176, 138),
    (188, 132, 92),
    (134, 88, 60),
    (92, 58, 40),
)


@dataclass(frozen=True)
class Look:
    """How a page is inked and printed."""

    colored: bool
    """Flat colours; greys and dots otherwise."""
    pen: float
    """Width of the widest ink lines in pixels."""
    ink: Color
    dots_px: float
    """Distance of the printed dots."""
    dot_angle: float

    def fill(self, rng: np.random.Generator, lightness: tuple[float, float] = (0.35, 0.9)) -> Color:
        """A flat colour, or a grey."""
        if self.colored:
            return random_color(rng, lightness)
        if lightness[1] > 0.6 and rng.random() < 0.55:
            return WHITE
        grey = int(255 * rng.uniform(*lightness))
        return grey, grey, grey


def draw_comic(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """A page of one to six panels."""
    look = Look(
        colored=bool(rng.random() < 0.7),
        pen=float(rng.uniform(1.6, 5)) * side / 768,
        ink=BLACK if rng.random() < 0.8 else random_color(rng, (0.03, 0.15)),
        dots_px=float(rng.uniform(4, 9)),
        dot_angle=float(rng.uniform(0.2, 1.3)),
    )
    canvas = Canvas(side, side, FACTOR, WHITE if rng.random() < 0.8 else random_color(rng, (0.85, 0.97)))
    rows = int(rng.integers(1, 4))
    gutter = side * float(rng.uniform(0.012, 0.03))
    edges = np.cumsum([0.0, *rng.uniform(0.7, 1.3, rows)])
    edges = gutter + edges / edges[-1] * (side - gutter)
    for top, below in itertools.pairwise(edges):
        columns = int(rng.integers(1, 3 if rows < 3 else 4))
        cuts = np.cumsum([0.0, *rng.uniform(0.7, 1.3, columns)])
        cuts = gutter + cuts / cuts[-1] * (side - gutter)
        for left, right in itertools.pairwise(cuts):
            draw_panel(
                canvas, rng, fonts, look, (float(left), float(top), float(right - gutter), float(below - gutter))
            )
    return canvas.finish(Image.Resampling.LANCZOS if rng.random() < 0.5 else Image.Resampling.BOX)


def draw_panel(
    canvas: Canvas, rng: np.random.Generator, fonts: Fonts, look: Look, area: tuple[float, float, float, float]
) -> None:
    """One panel, drawn apart so that its frame cuts it off."""
    left, top, right, bottom = area
    width, height = max(8, round(right - left)), max(8, round(bottom - top))
    panel = Canvas(width, height, canvas.factor, look.fill(rng, (0.6, 0.95)))
    draw_backdrop(panel, rng, look)
    people = 1 if width < height * 0.9 else int(rng.integers(1, 3))
    size = min(height * 0.42, width / people * 0.42) * float(rng.uniform(0.7, 1.6))
    for number in range(people):
        x = width * (number + 0.5) / people + float(rng.uniform(-0.08, 0.08)) * width
        draw_person(panel, rng, look, x, height - size * float(rng.uniform(0.9, 1.5)), size)
    if rng.random() < 0.85:
        draw_balloon(panel, rng, fonts, look, x, height * 0.5)
    if rng.random() < 0.25:
        draw_shout(panel, rng, fonts, look)
    canvas.paste(panel.image, left=left, top=top)
    frame = points((left, top), (right, top), (right, bottom), (left, bottom), (left, top), (right, top))
    canvas.line(frame, look.pen * 0.8, look.ink)


# Behind the people ------------------------------------------------------------------------------------------


def draw_backdrop(panel: Canvas, rng: np.random.Generator, look: Look) -> None:
    """Sky, city, hills, rays or dots."""
    width, height, kind = panel.width, panel.height, int(rng.integers(5))
    if kind == 0:
        first, second = look.fill(rng, (0.4, 0.7)), look.fill(rng, (0.8, 0.97))
        panel.paste(gradient(panel.image.width, panel.image.height, first, second, float(rng.uniform(0, 3))))
    elif kind == 1:
        draw_city(panel, rng, look)
    elif kind == 2:
        for level in (0.45, 0.6, 0.75):
            xs = np.linspace(-0.1 * width, 1.1 * width, 7)
            ridge = curve(np.stack([xs, height * (level + rng.uniform(-0.12, 0.12, 7))], axis=1))
            panel.polygon(
                np.concatenate([ridge, points((1.1 * width, height), (-0.1 * width, height))]), look.fill(rng)
            )
            panel.stroke(ridge, swelling(len(ridge), look.pen, 0.6), look.ink)
    elif kind == 3:
        draw_rays(panel, rng, look)
    if kind == 4 or rng.random() < 0.35:
        y = np.linspace(0, 1, panel.image.height)[:, None] + np.zeros((1, panel.image.width))
        tone = np.clip(y if rng.random() < 0.5 else 1 - y, 0, 1) * float(rng.uniform(0.3, 0.6))
        mask = halftone(tone, look.dots_px * panel.factor, look.dot_angle)
        panel.paste(Image.new("RGB", panel.image.size, look.fill(rng, (0.2, 0.55))), mask)


def draw_city(panel: Canvas, rng: np.random.Generator, look: Look) -> None:
    """Blocks of houses with lit windows."""
    x = -5.0
    while x < panel.width:
        wide, high = float(rng.uniform(0.1, 0.25)) * panel.width, float(rng.uniform(0.3, 0.8)) * panel.height
        top = panel.height - high
        panel.box(x, top, x + wide, panel.height, look.fill(rng, (0.25, 0.7)), outline=look.ink, width=look.pen * 0.5)
        pane, lit = wide / 6, look.fill(rng, (0.75, 0.95))
        for row in range(int(high / pane / 2)):
            for column in range(3):
                if rng.random() < 0.75:
                    left, upper = x + pane * (0.7 + 1.8 * column), top + pane * (0.8 + 2 * row)
                    panel.box(
                        left, upper, left + pane, upper + pane * 1.3, lit, outline=look.ink, width=look.pen * 0.25
                    )
        x += wide * float(rng.uniform(0.9, 1.3))


def draw_rays(panel: Canvas, rng: np.random.Generator, look: Look) -> None:
    """Speed lines from a centre outwards."""
    centre = np.array([panel.width * rng.uniform(0.3, 0.7), panel.height * rng.uniform(0.3, 0.7)])
    far, count = panel.width + panel.height, int(rng.integers(30, 90))
    color = look.ink if rng.random() < 0.6 else look.fill(rng)
    for angle in np.sort(rng.uniform(0, 2 * np.pi, count)):
        near, half = float(rng.uniform(0.2, 0.5)) * panel.width, float(rng.uniform(0.003, 0.02))
        tip = centre + near * np.array([np.cos(angle), np.sin(angle)])
        ends = [centre + far * np.array([np.cos(a), np.sin(a)]) for a in (angle - half, angle + half)]
        panel.polygon(np.stack([tip, *ends]), color)


# People -----------------------------------------------------------------------------------------------------


def inked(panel: Canvas, outline: Points, color: Color, look: Look, width: float = 1.0) -> None:
    """A filled shape with an ink line around it that is thick on one side and thin on the other."""
    panel.polygon(outline, color)
    turn = np.linspace(0, 2 * np.pi, len(outline))
    ring = np.concatenate([outline, outline[:1]])
    widths = look.pen * width * (0.65 + 0.35 * np.sin(turn))
    panel.stroke(ring, [*widths, widths[0]], look.ink)


def draw_person(panel: Canvas, rng: np.random.Generator, look: Look, x: float, y: float, size: float) -> None:
    """Head and shoulders around (x, y), `size` pixels from chin to crown."""
    skin, cloth, hair = look.fill(rng, (0.55, 0.9)), look.fill(rng), look.fill(rng, (0.05, 0.6))
    if look.colored and rng.random() < 0.8:
        skin = SKINS[int(rng.integers(len(SKINS)))]
    half = size * 0.42
    body = curve(
        points(
            (x - 1.3 * half, y + 3.4 * half),
            (x - 1.2 * half, y + 1.7 * half),
            (x - 0.35 * half, y + 1.1 * half),
            (x + 0.35 * half, y + 1.1 * half),
            (x + 1.2 * half, y + 1.7 * half),
            (x + 1.3 * half, y + 3.4 * half),
        ),
        closed=True,
    )
    inked(panel, body, cloth, look)
    for shift in rng.uniform(-0.8, 0.8, int(rng.integers(2, 7))):  # folds
        fold = curve(
            points(
                (x + shift * half, y + 1.8 * half),
                (x + shift * half * 0.9, y + 2.2 * half),
                (x + shift * half * 1.1, y + 2.9 * half),
            )
        )
        panel.stroke(fold, swelling(len(fold), look.pen * 0.6), look.ink)
    panel.box(
        x - 0.3 * half, y + 0.7 * half, x + 0.3 * half, y + 1.35 * half, skin, outline=look.ink, width=look.pen * 0.5
    )
    if rng.random() < 0.5:  # long hair, behind the head
        inked(panel, blob(rng, x, y + 0.2 * half, 1.2 * half, 1.35 * half, 9, 0.1), hair, look)
    face = curve(
        points(
            (x, y - 1.1 * half),
            (x + 0.85 * half, y - 0.5 * half),
            (x + 0.8 * half, y + 0.4 * half),
            (x + float(rng.uniform(-0.1, 0.1)) * half, y + float(rng.uniform(0.95, 1.2)) * half),
            (x - 0.8 * half, y + 0.4 * half),
            (x - 0.85 * half, y - 0.5 * half),
        ),
        closed=True,
    )
    inked(panel, face, skin, look)
    draw_features(panel, rng, look, x, y, half)
    draw_hair(panel, rng, look, x, y, half, hair)


def draw_features(panel: Canvas, rng: np.random.Generator, look: Look, x: float, y: float, half: float) -> None:
    """Eyes, brows, nose and mouth."""
    tilt, wide, open_eye = float(rng.uniform(-0.12, 0.12)), float(rng.uniform(0.13, 0.26)), float(rng.uniform(0.5, 1.3))
    iris = look.fill(rng, (0.15, 0.5))
    for sign in (-1, 1):
        eye_x, eye_y = x + sign * 0.38 * half, y - 0.1 * half
        panel.ellipse(eye_x, eye_y, wide * half, wide * open_eye * half, WHITE, look.ink, look.pen * 0.45)
        panel.ellipse(eye_x + 0.03 * half, eye_y, wide * half * 0.55, wide * open_eye * half * 0.6, iris)
        panel.ellipse(eye_x + 0.03 * half, eye_y, wide * half * 0.3, wide * open_eye * half * 0.35, look.ink)
        panel.ellipse(eye_x + 0.1 * half * wide * 4, eye_y - 0.06 * half, wide * half * 0.15, wide * half * 0.15, WHITE)
        brow = curve(
            points(
                (eye_x - 0.24 * half, y - (0.42 + sign * tilt) * half),
                (eye_x, y - 0.5 * half),
                (eye_x + 0.24 * half, y - (0.42 - sign * tilt) * half),
            )
        )
        panel.stroke(brow, swelling(len(brow), look.pen * 1.3), look.ink)
    nose = curve(points((x, y + 0.05 * half), (x + 0.14 * half, y + 0.35 * half), (x - 0.02 * half, y + 0.4 * half)))
    panel.stroke(nose, swelling(len(nose), look.pen * 0.7), look.ink)
    bend, broad = float(rng.uniform(-0.1, 0.15)), float(rng.uniform(0.15, 0.38))
    mouth = curve(
        points((x - broad * half, y + 0.62 * half), (x, y + (0.62 + bend) * half), (x + broad * half, y + 0.62 * half))
    )
    if rng.random() < 0.3:
        lower = points((x + broad * 0.5 * half, y + 0.8 * half), (x - broad * 0.5 * half, y + 0.8 * half))
        inked(panel, np.concatenate([mouth, lower]), look.fill(rng, (0.1, 0.4)), look, 0.6)
    else:
        panel.stroke(mouth, swelling(len(mouth), look.pen), look.ink)
    if rng.random() < 0.4:  # shading strokes on the cheek
        for number in range(int(rng.integers(3, 8))):
            start = x + (0.35 + 0.07 * number) * half
            panel.line(points((start, y + 0.3 * half), (start - 0.1 * half, y + 0.5 * half)), look.pen * 0.25, look.ink)


def draw_hair(
    panel: Canvas, rng: np.random.Generator, look: Look, x: float, y: float, half: float, color: Color
) -> None:
    """A fringe of pointed strands, with lines of light or ink in it."""
    tips = int(rng.integers(4, 9))
    low = [
        (x - half + 2 * half * i / (2 * tips), y - (0.28 if i % 2 == 0 else 0.75) * half) for i in range(2 * tips + 1)
    ]
    crown = [
        (x + 0.98 * half, y - 0.9 * half),
        (x + 0.5 * half, y - 1.35 * half),
        (x, y - 1.45 * half),
        (x - 0.5 * half, y - 1.35 * half),
        (x - 0.98 * half, y - 0.9 * half),
    ]
    inked(panel, np.concatenate([points(*low), curve(points(*crown))]), color, look)
    shine = WHITE if rng.random() < 0.5 else look.ink
    for shift in np.linspace(-0.6, 0.6, int(rng.integers(4, 12))):
        strand = curve(
            points(
                (x + shift * half * 0.7, y - 1.3 * half),
                (x + shift * half, y - 1.0 * half),
                (x + shift * half * 1.15, y - 0.7 * half),
            )
        )
        panel.stroke(strand, swelling(len(strand), look.pen * 0.5), shine)


# Words ------------------------------------------------------------------------------------------------------


def draw_balloon(panel: Canvas, rng: np.random.Generator, fonts: Fonts, look: Look, x: float, y: float) -> None:
    """A balloon of words in the upper part of the panel, its tail towards (x, y)."""
    font, size = fonts.choose(rng, "comic"), float(rng.uniform(11, 22)) * max(0.6, min(1.2, panel.width / 380))
    words = phrase(rng, int(rng.integers(3, 13))).upper()
    most = max(1, int(panel.height * 0.35 / size))
    lines = panel.wrapped(words, font, size, max(panel.width * 0.5, 60))[:most]
    broad = max(panel.text_width(line, font, size) for line in lines) * 0.62 + size
    high = len(lines) * size * 0.75 + size * 0.8
    middle = float(np.clip(rng.uniform(0.3, 0.7) * panel.width, broad + 3, max(broad + 4, panel.width - broad - 3)))
    upper = high + 5
    tail = points((middle - size, upper), (x, min(y, upper + high + 3 * size)), (middle + size * 0.6, upper))
    if rng.random() < 0.2:
        panel.box(
            middle - broad, upper - high, middle + broad, upper + high, WHITE, outline=look.ink, width=look.pen * 0.6
        )
    else:
        panel.line(np.concatenate([tail, tail[:1]]), look.pen, look.ink)
        panel.ellipse(middle, upper, broad, high, WHITE, look.ink, look.pen * 0.7)
        panel.polygon(tail, WHITE)
    panel.text(middle, upper, "\n".join(lines), font, size, look.ink, anchor="mm", spacing=size * 0.25)


def draw_shout(panel: Canvas, rng: np.random.Generator, fonts: Fonts, look: Look) -> None:
    """A large, outlined, turned word with a star behind it."""
    word = str(rng.choice(["BOOM", "WHAM", "POW!", "CRASH", "ZAP", "SPLASH", "NO!", "HA HA", "BANG", "CLICK"]))
    font, size = fonts.choose(rng, "bold"), panel.width * float(rng.uniform(0.12, 0.22))
    x, y = panel.width * rng.uniform(0.3, 0.7), panel.height * rng.uniform(0.55, 0.85)
    spikes = int(rng.integers(9, 16)) * 2
    angles = np.linspace(0, 2 * np.pi, spikes, endpoint=False)
    reach = np.where(np.arange(spikes) % 2 == 0, 1.0, rng.uniform(0.6, 0.8)) * size
    star = np.stack([x + reach * 1.9 * np.cos(angles), y + reach * np.sin(angles)], axis=1)
    inked(panel, star, look.fill(rng, (0.6, 0.95)), look)
    layer = Image.new("L", panel.image.size)
    rim = layer.copy()
    scratch = Canvas(1, 1, panel.factor)
    for image, stroke in ((rim, look.pen * 1.2), (layer, 0.0)):
        scratch.image, scratch.pen = image, ImageDraw.Draw(image)
        scratch.text(x, y, word, font, size, 255, anchor="mm", rim=stroke, rim_color=255)  # type: ignore[arg-type]
    turn, centre = float(rng.normal(0, 10)), (x * panel.factor, y * panel.factor)
    for mask, color in ((rim, look.ink), (layer, look.fill(rng, (0.4, 0.7)))):
        turned = mask.rotate(turn, Image.Resampling.BICUBIC, center=centre)
        panel.paste(Image.new("RGB", panel.image.size, color), turned)

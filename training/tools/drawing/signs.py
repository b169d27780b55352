"""Signs, labels and logos over gradients and over soft, photo-like grounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.tools.drawing.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Color,
    Points,
    as_image,
    blob,
    gradient,
    noise_field,
    points,
    random_color,
)
from training.tools.drawing.fonts import Fonts, number_text, phrase
from training.tools.drawing.pages import pick_script

FACTOR = 2


def draw_sign(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """One to five signs, each seen at its own slant, over a ground."""
    canvas = Canvas(side, side, FACTOR)
    canvas.paste(draw_ground(rng, side * FACTOR))
    count = int(rng.choice([1, 2, 4, 5]))
    spots = (
        [(0.5, 0.5)] if count == 1 else [(0.27 + 0.46 * (i % 2), 0.25 + 0.5 * (i // 2)) for i in range(min(count, 4))]
    )
    for across, down in spots:
        width = side * float(rng.uniform(0.55, 0.85) if count == 1 else rng.uniform(0.36, 0.5))
        sign, mask = draw_board(rng, fonts, round(width * FACTOR), round(width * FACTOR * float(rng.uniform(0.5, 1.0))))
        place_slanted(canvas, rng, sign, mask, across * side, down * side)
    return canvas.finish()


# Grounds ----------------------------------------------------------------------------------------------------


def draw_ground(rng: np.random.Generator, side: int) -> Image.Image:
    """A gradient, or blurred lights, a wall of bricks, or clouds of colour with grain."""
    first, second = random_color(rng, (0.1, 0.9)), random_color(rng, (0.1, 0.9))
    ground = gradient(side, side, first, second, float(rng.uniform(0, np.pi)))
    kind = int(rng.integers(4))
    if kind == 1:
        pen = ImageDraw.Draw(ground, "RGBA")
        for _ in range(int(rng.integers(20, 60))):
            x, y, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.01, 0.07) * side
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*random_color(rng, (0.5, 0.95)), 110))
        ground = ground.filter(ImageFilter.GaussianBlur(side * 0.004))
    elif kind == 2:
        ground = draw_bricks(rng, side, first, second)
    elif kind == 3:
        shares = sum(noise_field(rng, side, side, cells) / cells**0.5 for cells in (3, 7, 15, 40, 120))
        shares = np.asarray(shares)
        share = ((shares - shares.min()) / np.ptp(shares))[..., None]
        mixed = share * np.array(first) + (1 - share) * np.array(second)
        ground = as_image(mixed)
    return ground


def draw_bricks(rng: np.random.Generator, side: int, brick: Color, joint: Color) -> Image.Image:
    """A wall of bricks of uneven tone with some grain."""
    wall = Image.new("RGB", (side, side), joint)
    pen, high = ImageDraw.Draw(wall), side / float(rng.integers(8, 20))
    for row in range(int(side / high) + 1):
        for column in range(-1, int(side / high / 2.2) + 1):
            left, top = (column + 0.5 * (row % 2)) * high * 2.2, row * high
            tone = tuple(int(np.clip(c * rng.uniform(0.75, 1.2), 0, 255)) for c in brick)
            pen.rounded_rectangle((left, top, left + high * 2.05, top + high * 0.88), high * 0.06, fill=tone)
    grain = noise_field(rng, side, side, side // 3)[..., None] * 40 - 20
    return as_image(np.asarray(wall) + grain)


# Signs ------------------------------------------------------------------------------------------------------


def draw_board(rng: np.random.Generator, fonts: Fonts, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """A sign of width x height pixels of the large image, and its mask."""
    back, front = board_colors(rng)
    board = Canvas(width, height, 1, back)
    mask = Canvas(width, height, 1, BLACK)
    shape, unit = int(rng.integers(4)), min(width, height)
    rim = unit * float(rng.uniform(0.015, 0.04))
    if shape == 0:
        mask.ellipse(width / 2, height / 2, width / 2 - 1, height / 2 - 1, WHITE)
        board.ellipse(width / 2, height / 2, width / 2 - 2 * rim, height / 2 - 2 * rim, None, front, rim)
    else:
        radius = (0.0, unit * 0.06, unit * 0.2)[shape - 1]
        mask.box(0, 0, width, height, WHITE, radius=radius)
        inset = (2 * rim, 2 * rim, width - 2 * rim, height - 2 * rim)
        board.box(*inset, None, radius=max(0.0, radius - 2 * rim), outline=front, width=rim)
    inner = 0.62 if shape == 0 else 0.84
    top, space = height * (1 - inner * 0.85) / 2, height * inner * 0.85
    if rng.random() < 0.5:
        mark = space * 0.4
        draw_mark(board, rng, width / 2, top + mark / 2, mark / 2, front, back)
        top, space = top + mark * 1.1, space - mark * 1.1
    lines = int(rng.integers(1, 4))
    script = pick_script(rng, fonts)
    for number, share in enumerate(rng.dirichlet(np.full(lines, 4.0))):
        font = fonts.choose(rng, "bold" if rng.random() < 0.6 else "any", script)
        words = phrase(rng, int(rng.integers(1, 4)), script) if rng.random() < 0.85 else number_text(rng)
        words = words.upper() if rng.random() < 0.5 else words
        size = min(share * space * 0.95, 40 * width * inner / max(1.0, board.text_width(words, font, 40)))
        board.text(width / 2, top + share * space / 2, words, font, size, front, anchor="mm")
        top += share * space
        if number < lines - 1 and rng.random() < 0.2:
            board.line(points((width * (1 - inner) / 2, top), (width * (1 + inner) / 2, top)), rim * 0.5, front)
    return board.image, mask.image.convert("L")


def board_colors(rng: np.random.Generator) -> tuple[Color, Color]:
    """Ground and writing of a sign, well apart."""
    if rng.random() < 0.4:
        grounds: Sequence[Color] = (
            (190, 20, 30),
            (0, 80, 160),
            (0, 110, 60),
            (240, 200, 20),
            (20, 20, 20),
            (245, 245, 245),
        )
        ground = grounds[int(rng.integers(len(grounds)))]
        return ground, BLACK if sum(ground) > 420 else WHITE
    if rng.random() < 0.5:
        return random_color(rng, (0.05, 0.3)), random_color(rng, (0.8, 1.0))
    return random_color(rng, (0.78, 0.97)), random_color(rng, (0.05, 0.3))


def draw_mark(
    board: Canvas, rng: np.random.Generator, x: float, y: float, radius: float, front: Color, back: Color
) -> None:
    """A logo: an arrow, rings, a star, a leaf-like blob or bars."""
    kind, color = int(rng.integers(5)), front if rng.random() < 0.6 else random_color(rng, (0.4, 0.65))
    if kind == 0:
        r = radius
        board.polygon(
            points(
                (x - r, y - r * 0.25),
                (x + r * 0.2, y - r * 0.25),
                (x + r * 0.2, y - r * 0.7),
                (x + r, y),
                (x + r * 0.2, y + r * 0.7),
                (x + r * 0.2, y + r * 0.25),
                (x - r, y + r * 0.25),
            ),
            color,
        )
    elif kind == 1:
        for share in (1.0, 0.68, 0.36):
            board.ellipse(x, y, radius * share, radius * share, color if share != 0.68 else back)
    elif kind == 2:
        corners = int(rng.integers(5, 9)) * 2
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) - np.pi / 2
        reach = np.where(np.arange(corners) % 2 == 0, 1.0, float(rng.uniform(0.4, 0.75))) * radius
        board.polygon(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1), color)
    elif kind == 3:
        board.polygon(blob(rng, x, y, radius, radius, 7, 0.35), color)
        board.polygon(blob(rng, x, y, radius * 0.5, radius * 0.5, 6, 0.3), back)
    else:
        for number in range(4):
            left = x + radius * (-1 + 0.55 * number)
            board.box(left, y + radius - radius * 0.5 * (number + 1), left + radius * 0.35, y + radius, color)


def place_slanted(
    canvas: Canvas, rng: np.random.Generator, sign: Image.Image, mask: Image.Image, x: float, y: float
) -> None:
    """Paste a sign around (x, y) as it looks from aside, with a soft shadow under it."""
    f, (width, height) = canvas.factor, sign.size
    jitter = rng.normal(0, 0.06, (4, 2)) * np.array([width, height]) if rng.random() < 0.6 else np.zeros((4, 2))
    centre = np.array([x * f - width / 2, y * f - height / 2])
    source = points((0, 0), (width, 0), (width, height), (0, height))
    coefficients = perspective(source + centre + jitter, source)
    size, how = canvas.image.size, Image.Transform.PERSPECTIVE
    placed = sign.transform(size, how, coefficients, Image.Resampling.BICUBIC)
    cover = mask.transform(size, how, coefficients, Image.Resampling.BICUBIC)
    shadow = cover.filter(ImageFilter.GaussianBlur(5 * f)).point([level // 2 for level in range(256)])
    canvas.paste(Image.new("RGB", size, BLACK), shadow, left=2, top=4)
    canvas.paste(placed, cover)


def perspective(onto: Points, source: Points) -> list[float]:
    """Eight coefficients of the perspective that takes the corners `onto` back to `source`, as Pillow wants them."""
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(onto, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solved: list[float] = np.linalg.solve(np.array(rows), source.reshape(-1)).tolist()
    return solved

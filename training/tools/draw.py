"""`python -m training draw`: pictures drawn by code, to train on beside photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gendrpix.image.write import save_png
from training.data.degradation import sample_rng
from training.tools.drawing.charts import draw_chart
from training.tools.drawing.comics import draw_comic
from training.tools.drawing.fonts import Fonts, find_fonts
from training.tools.drawing.lineart import draw_lineart
from training.tools.drawing.pages import draw_page
from training.tools.drawing.screens import draw_screen
from training.tools.drawing.signs import draw_sign

Draw = Callable[[np.random.Generator, Fonts, int], Image.Image]

KINDS: Mapping[str, Draw] = {
    "comic": draw_comic,
    "page": draw_page,
    "screen": draw_screen,
    "sign": draw_sign,
    "lineart": draw_lineart,
    "chart": draw_chart,
}
"""What is drawn, in turn."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Pages, comics, screens, signs, line art and charts as PNG files."""

    out: Path
    """Folder for the pictures."""
    count: int = 240
    """Pictures to draw; the six kinds come in turn."""
    seed: int = 0
    """Picture n follows from the seed, n, the size and the fonts alone."""
    fonts: tuple[Path, ...] = ()
    """Folders with TTF or OTF files. Empty: matplotlib's own and those under /usr/share/fonts."""
    side_px: int = 768
    """Side of the square pictures in pixels."""
    overwrite: bool = False
    """Replace pictures that exist; otherwise they are left as they are."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(f"count is {self.count} and seed {self.seed}; expected at least 1 and at least 0.")
        if not 128 <= self.side_px <= 4096:
            raise ValueError(f"side_px is {self.side_px}, expected 128 to 4096.")


def draw(config: DrawConfig) -> Path:
    """Draw what is missing in the folder. ValueError where no font is found."""
    fonts = find_fonts(config.fonts)
    config.out.mkdir(parents=True, exist_ok=True)
    for number in range(config.count):
        path = config.out / picture_name(config.seed, number)
        if path.exists() and not config.overwrite:
            continue
        save_png(draw_picture(config.seed, number, fonts, config.side_px), path, overwrite=config.overwrite)
        if number % 20 == 0:
            logger.info("%s (%d of %d)", path.name, number + 1, config.count)
    return config.out


def draw_picture(seed: int, number: int, fonts: Fonts, side_px: int) -> Image.Image:
    """Picture `number` of the seed, (side_px, side_px) RGB."""
    return KINDS[kind_of(number)](sample_rng(seed, number), fonts, side_px)


def kind_of(number: int) -> str:
    """The kind of a picture: the kinds come in turn."""
    return list(KINDS)[number % len(KINDS)]


def picture_name(seed: int, number: int) -> str:
    """File name of a picture: "comic-s0-00006.png"."""
    return f"{kind_of(number)}-s{seed}-{number:05d}.png"

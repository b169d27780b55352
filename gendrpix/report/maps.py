"""Maps of one value a pixel, and how they are drawn: consistency with the input, difference, spectrum, sweep.

Differences are means over the channels of absolute differences, as parts of the full range (0 to 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from gendrpix.image.resize import resize
from gendrpix.image.write import to_pil
from gendrpix.metrics.fidelity import check_pair
from gendrpix.report.plots import INK, PAPER, label_font
from gendrpix.specs import PATCH, Offset

LEAST_TOP = 0.02
"""Smallest top of a scale of differences: rounding to 8 bits must not look like a fault."""
TICKS = 5
FLOOR_DB = 80.0
"""The spectrum shows this many dB below its highest amplitude."""
MOST_PX = 1600
"""Longer side of a drawn map; of a larger one the highest value of each field is shown."""
CELL_PX = 56
MARGIN_PX = 44


def consistency(result: Tensor, source: Tensor) -> Tensor:
    """How far the result, reduced to the source's size, is from it: (1, 1, h, w) in [0, 1].

    result: (1, 3, H, W), source: (1, 3, h, w), both in [-1, 1]. A faithful result is near 0 everywhere.
    """
    return difference(resize(result, *source.shape[-2:]), source)


def difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the channels of |first - second| as a part of the full range: (B, 3, H, W) each => (B, 1, H, W)."""
    check_pair(first, second)
    return (first.float() - second.float()).abs().mean(dim=1, keepdim=True) / 2


def spectrum(x: Tensor) -> Tensor:
    """Amplitudes of the luminance's 2-D spectrum in dB below the highest: (1, 3, H, W) => (H, W), zero frequency
    in the middle, from -80 to 0. Cropped to multiples of 8, Hann window, mean removed (as `metrics.grid.grid_score`).
    """
    height, width = (side - side % PATCH for side in x.shape[-2:])
    if min(height, width) < PATCH:
        raise ValueError(f"A spectrum needs at least {PATCH} pixels a side; got {tuple(x.shape[-2:])}. Take more.")
    weights = torch.tensor((0.299, 0.587, 0.114), dtype=torch.float64)
    luminance = torch.einsum("chw,c->hw", x[0, :, :height, :width].cpu().double(), weights)
    window = torch.outer(*(torch.hann_window(side, dtype=torch.float64) for side in (height, width)))
    amplitude = torch.fft.fftshift(torch.fft.fft2((luminance - luminance.mean()) * window, norm="ortho").abs())
    highest = amplitude.max().clamp(min=1e-12)
    return (20 * torch.log10((amplitude / highest).clamp(min=10 ** (-FLOOR_DB / 20)))).float()


def harmonics(height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) in `spectrum` of the 63 harmonics of an 8-pixel period, for sides that are multiples of 8."""
    rows, columns = height // PATCH, width // PATCH
    steps = range(-PATCH // 2, PATCH // 2)
    return [(height // 2 + k * rows, width // 2 + j * columns) for k in steps for j in steps if (k, j) != (0, 0)]


# Drawing -----------------------------------------------------------------------------------------------------------


def colored(values: Tensor, low: float, high: float, palette: str = "magma") -> Image.Image:
    """(H, W) => RGB by one of matplotlib's palettes; what lies outside low to high takes the end's colour."""
    from matplotlib import colormaps

    share = ((values.float() - low) / max(high - low, 1e-12)).clamp(0, 1).cpu().numpy()
    return to_pil(torch.from_numpy(np.asarray(colormaps[palette](share))[..., :3].copy()).permute(2, 0, 1) * 2 - 1)


def draw_heat(values: Tensor, *, high: float | None = None, side_px: int = 640) -> Image.Image:
    """A map of differences (1, 1, H, W) in [0, 1] as RGB, pixel by pixel, with a scale in percent of the full range.

    high: the scale's top; the 99.5th percentile where none is given, but at least 2%. What is above has its colour.
    """
    if values.ndim != 4 or values.shape[:2] != (1, 1):
        raise ValueError(f"A map to draw is (1, 1, H, W); got {tuple(values.shape)}.")
    if max(values.shape) > MOST_PX:
        height, width = (max(1, side * MOST_PX // max(values.shape)) for side in values.shape[-2:])
        values = F.adaptive_max_pool2d(values, (height, width))
    flat = values[0, 0]
    if high is None:
        highest = np.quantile(flat.cpu().numpy(), 0.995)
        high = max(LEAST_TOP, float(highest))
    picture = colored(flat, 0.0, high)
    factor = max(1, side_px // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return with_scale(picture, 0.0, high * 100, "magma", "%")


def draw_spectrum(values: Tensor, *, marked: bool = True, side_px: int = 384) -> Image.Image:
    """`spectrum` as RGB, enlarged to about `side_px`, its 8-pixel harmonics in circles, with a scale in dB."""
    height, width = values.shape
    picture = colored(values, -FLOOR_DB, 0.0, "viridis")
    factor = side_px / max(height, width)
    picture = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.BOX)
    if marked:
        draw = ImageDraw.Draw(picture)
        for row, column in harmonics(height, width):
            x, y = (column + 0.5) * factor, (row + 0.5) * factor
            draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline="#ffffff", width=1)
    return with_scale(picture, -FLOOR_DB, 0.0, "viridis", "dB")


def with_scale(picture: Image.Image, low: float, high: float, palette: str, unit: str) -> Image.Image:
    """The picture with a bar of the palette at its right, `low` at the bottom, and the values beside it."""
    size = max(12, min(18, picture.height // 20))
    font = label_font(size)
    bar, gap, room = size, size // 2, size * 5
    top, bottom = size, max(size + 40, picture.height - size)
    sheet = Image.new("RGB", (picture.width + gap + bar + room, max(picture.height, bottom + size)), PAPER)
    sheet.paste(picture, (0, 0))
    left = picture.width + gap
    ramp = torch.linspace(high, low, bottom - top)[:, None].expand(-1, bar)
    sheet.paste(colored(ramp, low, high, palette), (left, top))
    draw = ImageDraw.Draw(sheet)
    for step in range(TICKS):
        share = step / (TICKS - 1)
        value = low + share * (high - low)
        text = f"{value:.3g} {unit}".strip()
        draw.text((left + bar + gap, bottom - share * (bottom - top)), text, fill=INK, font=font, anchor="lm")
    return sheet


def draw_sweep(
    values: Mapping[Offset, float], *, higher_is_better: bool, marks: Mapping[str, Offset | None], unit: str = ""
) -> Image.Image:
    """The 8 x 8 offsets with their figures, the better the brighter; those not scored yet are grey.

    marks: a letter => the offset whose cell has it in its corner. `cell_at` finds the cell of a pixel.
    """
    side = MARGIN_PX + PATCH * CELL_PX
    sheet = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(sheet)
    small, plain = label_font(12), label_font(14)
    low, high = (min(values.values()), max(values.values())) if values else (0.0, 1.0)
    for row in range(PATCH):
        middle = MARGIN_PX + (row + 0.5) * CELL_PX
        draw.text((MARGIN_PX - 10, middle), str(row), fill=INK, font=plain, anchor="rm")
        draw.text((middle, MARGIN_PX - 10), str(row), fill=INK, font=plain, anchor="ms")
        for column in range(PATCH):
            box = cell_box((row, column))
            value = values.get((row, column))
            if value is None:
                draw.rectangle(box, fill="#e3e6ea", outline=PAPER)
                continue
            goodness = (value - low) / (high - low) if high > low else 0.5
            goodness = goodness if higher_is_better else 1 - goodness
            color = palette_color(goodness)
            ink = "#000000" if sum(color) > 360 else "#ffffff"
            draw.rectangle(box, fill=color, outline=PAPER)
            draw.text(((box[0] + box[2]) / 2, box[1] + 36), figure_text(value), fill=ink, font=plain, anchor="mm")
    for letter, offset in marks.items():
        if offset is not None:
            draw_mark(draw, offset, letter, list(marks).index(letter), small)
    draw.text((4, MARGIN_PX - 10), f"rows\\cols {unit}".strip(), fill=INK, font=label_font(9), anchor="ls")
    return sheet


def draw_mark(draw: ImageDraw.ImageDraw, offset: Offset, letter: str, place: int, font: object) -> None:
    """A letter on a white tag in the cell's upper edge; `place` keeps several apart."""
    left, top, _, _ = cell_box(offset)
    x, y = left + 3 + place * 17, top + 3
    draw.rectangle((x, y, x + 15, y + 15), fill=PAPER, outline=INK)
    draw.text((x + 8, y + 8), letter, fill=INK, font=font, anchor="mm")  # type: ignore[arg-type]


def cell_box(offset: Offset) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of an offset's cell in `draw_sweep`, in pixels, all within."""
    row, column = offset
    left, top = MARGIN_PX + column * CELL_PX, MARGIN_PX + row * CELL_PX
    return left, top, left + CELL_PX - 1, top + CELL_PX - 1


def cell_at(x: float, y: float) -> Offset | None:
    """The offset at a pixel of `draw_sweep`, or None on its margins."""
    column, row = int((x - MARGIN_PX) // CELL_PX), int((y - MARGIN_PX) // CELL_PX)
    return (row, column) if 0 <= row < PATCH and 0 <= column < PATCH else None


def palette_color(share: float) -> tuple[int, int, int]:
    """Viridis at `share` of its length, as PIL takes it."""
    pixel = colored(torch.tensor([[share]]), 0.0, 1.0, "viridis").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    red, green, blue = pixel[:3]
    return int(red), int(green), int(blue)


def figure_text(value: float) -> str:
    """Four characters or so: "12.31", "0.412", "101.2"."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"


def stack_beside(pictures: Sequence[Image.Image], gap_px: int = 12) -> NDArray[np.uint8]:
    """Pictures in one row on white, (H, W, 3) uint8."""
    width = sum(picture.width for picture in pictures) + gap_px * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER)
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap_px
    return np.asarray(sheet)

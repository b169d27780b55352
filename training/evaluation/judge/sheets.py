"""Sheets of `judge`: the results for one photo side by side, never enlarged, with the method's name above each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from gendrpix.comparison.comparison import SCORED
from gendrpix.files import make_folder, written_beside
from gendrpix.image.read import open_picture
from gendrpix.image.write import save_png
from gendrpix.report.plots import INK, PAPER, label_font
from gendrpix.specs import Box
from training.evaluation.figures import find_crop, to_webp

SHEET_PX = 2100
"""Width of a sheet, at most, unless one result is wider."""
WHOLE_PX = 1024
"""Longest side of a result that is shown whole at its own size."""
REDUCED_PX = 640
"""Longest side of a larger result shown whole, reduced, above crops at its own size."""
DETAIL_PX = 256
GAP_PX = 8
LABEL_PX = 28
PHOTOS_PER_PAGE = 8


class Sheets:
    """Writes sheets/PHOTO.png for each photo, and keeps one crop a photo for the page."""

    def __init__(self, out: Path, places: Mapping[str, Box], reference: str) -> None:
        """places: photo => the crop for the page. reference: whose result chooses a second crop, the most detailed."""
        self.out, self.places, self.reference = out, places, reference
        self._rows: list[Image.Image] = []
        make_folder(out / "sheets")

    def add(self, photo: str, pictures: Mapping[str, Image.Image], labels: Mapping[str, str]) -> None:
        """Write the sheet of one photo. pictures: method => RGB, all of one size."""
        shown = {labels[name]: picture for name, picture in pictures.items()}
        place = self.places[photo]
        crops = {label: picture.crop(place.corners) for label, picture in shown.items()}
        self._rows.append(captioned(photo, side_by_side(crops, columns=len(crops))))
        width, height = next(iter(shown.values())).size
        if max(width, height) <= WHOLE_PX:
            sheet = side_by_side(shown)
        else:
            detail = find_crop(open_picture(pictures[self.reference], SCORED).color, None, DETAIL_PX)
            more = {label: picture.crop(detail.corners) for label, picture in shown.items()}
            sheet = stack([side_by_side(reduce(shown)), side_by_side(crops), side_by_side(more)])
        save_png(captioned(photo, sheet), self.out / "sheets" / f"{photo}.png", overwrite=True)

    def publish(self, budget_bytes: int) -> list[Path]:
        """Write the crops as crops-1.webp and so on, eight photos each, within the budget; those of earlier runs go."""
        pages = [self._rows[start : start + PHOTOS_PER_PAGE] for start in range(0, len(self._rows), PHOTOS_PER_PAGE)]
        for old in self.out.glob("crops-*.webp"):
            old.unlink()
        written = []
        for number, rows in enumerate(pages, start=1):
            path = self.out / f"crops-{number}.webp"
            with written_beside(path, overwrite=True) as file:
                file.write(to_webp(stack(rows), budget_bytes // len(pages)))
            written.append(path)
        return written


def side_by_side(pictures: Mapping[str, Image.Image], *, columns: int = 0) -> Image.Image:
    """Pictures of one size at their own size, each under its label.

    columns: how many in a row; 0 for as few rows as fit into 2100 pixels, equally long.
    """
    width, height = next(iter(pictures.values())).size
    rows = math.ceil(len(pictures) / (columns or max(1, (SHEET_PX - GAP_PX) // (width + GAP_PX))))
    columns = columns or math.ceil(len(pictures) / rows)
    line = LABEL_PX + height + GAP_PX
    sheet = Image.new("RGB", (GAP_PX + columns * (width + GAP_PX), rows * line), PAPER)
    pen, font = ImageDraw.Draw(sheet), label_font(LABEL_PX // 2)
    for index, (label, picture) in enumerate(pictures.items()):
        left, top = GAP_PX + index % columns * (width + GAP_PX), index // columns * line
        pen.text((left + width / 2, top + LABEL_PX / 2), label, fill=INK, font=font, anchor="mm")
        sheet.paste(picture, (left, top + LABEL_PX))
    return sheet


def reduce(pictures: Mapping[str, Image.Image]) -> dict[str, Image.Image]:
    """The pictures, their longest side 640 pixels."""
    reduced = {}
    for label, picture in pictures.items():
        small = picture.copy()
        small.thumbnail((REDUCED_PX, REDUCED_PX), Image.Resampling.LANCZOS)
        reduced[label] = small
    return reduced


def captioned(caption: str, sheet: Image.Image) -> Image.Image:
    """The sheet below a line of text."""
    whole = Image.new("RGB", (sheet.width, LABEL_PX + sheet.height), PAPER)
    ImageDraw.Draw(whole).text((GAP_PX, LABEL_PX / 2), caption, fill=INK, font=label_font(LABEL_PX // 2), anchor="lm")
    whole.paste(sheet, (0, LABEL_PX))
    return whole


def stack(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below each other, left edges in line."""
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole

"""Regions of a picture: a box placed within it, and the picture cut to the box."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gendrpix.images import Picture


class Box(NamedTuple):
    """A region in pixels of the picture it is cut from."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom), as PIL takes it."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def place_box(width: int, height: int, *, across: float, down: float, side_px: int) -> Box:
    """A square of at most `side_px` within width x height pixels, its centre as near to (across, down) as it goes.

    across, down: 0 to 1. A side of the picture that is shorter than the square is taken whole.
    """
    box_width, box_height = min(max(1, side_px), width), min(max(1, side_px), height)
    left = min(max(0, round(across * width - box_width / 2)), width - box_width)
    top = min(max(0, round(down * height - box_height / 2)), height - box_height)
    return Box(left, top, box_width, box_height)


def cut(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The part of the picture in `box` (left, top, width, height in pixels), its alpha with it.

    Raises ValueError where the box reaches beyond the picture.
    """
    from gendrpix.images import Picture

    left, top, width, height = box
    inside = left >= 0 and top >= 0 and left + width <= picture.width and top + height <= picture.height
    if not inside or min(width, height) < 1:
        raise ValueError(
            f"The region at {left}, {top} of {width} x {height} pixels is not within the picture, "
            f"{picture.width} x {picture.height}; choose one that is."
        )
    rows, columns = slice(top, top + height), slice(left, left + width)
    alpha = None if picture.alpha is None else picture.alpha[..., rows, columns].clone()
    return Picture(color=picture.color[..., rows, columns].clone(), alpha=alpha, notes=picture.notes)

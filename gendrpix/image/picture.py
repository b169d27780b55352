"""Pictures as the restorers see them, their limits, and rectangles cut from them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gendrpix.errors import PictureError
from gendrpix.specs import Box


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the gate lets through. The defaults suit a public page on an ordinary machine."""

    max_bytes: int = 300_000_000
    """Size of the file, in bytes."""
    max_pixels: int = 100_000_000
    """Width times height of the picture, read from its header before anything is decoded."""
    max_read_pixels: int = 100_000_000
    """The same of a picture of which only a part is wanted; the part itself may have max_pixels."""
    max_output_pixels: int = 200_000_000
    """Width times height of the enlarged result."""
    max_aspect: float = 4000.0
    """Longer side divided by the shorter one (20,000 x 10 is 2000)."""
    max_seconds: float = 60.0
    """Time for decoding, looked at whenever the decoder asks for more of the file and after each step. One that asks
    only once (WebP, AVIF, HEIC, compressed TIFF) is stopped after its picture, which max_pixels bounds."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_read_pixels", "max_output_pixels", "max_aspect"):
            value = getattr(self, name)
            if not value >= 1:
                raise ValueError(f"Limits.{name} is {value}; give a number of at least 1.")
        if not self.max_seconds > 0:
            raise ValueError(f"Limits.max_seconds is {self.max_seconds}; give a positive number.")


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise PictureError unless width x height (pixels) is within the limits."""
    if width < 1 or height < 1:
        raise PictureError(f"The picture is {width} x {height}: it has no pixels; choose another one.")
    if width * height > limits.max_pixels:
        raise PictureError(
            f"The picture has {width} x {height} = {width * height:,} pixels and the limit is "
            f"{limits.max_pixels:,}; crop it or make it smaller."
        )
    aspect = max(width, height) / min(width, height)
    if aspect > limits.max_aspect:
        raise PictureError(
            f"The picture is {width} x {height}, so one side is {aspect:,.0f} times the other and the "
            f"limit is {limits.max_aspect:,.0f} times; crop it."
        )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright sRGB picture, as everything behind the gate sees it."""

    color: Tensor
    """(1, 3, H, W) float32 in [-1, 1], not premultiplied."""
    alpha: Tensor | None = None
    """(1, 1, H, W) float32 in [0, 1], or None for an opaque picture."""
    notes: tuple[str, ...] = ()
    """What a user should know about how it was read: "first of 12 frames"."""
    grey: bool = False
    """Whether it has no colour: its three channels are equal, and so must a result's be."""

    @property
    def width(self) -> int:
        return self.color.shape[-1]

    @property
    def height(self) -> int:
        return self.color.shape[-2]


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

    Raises PictureError where the box reaches beyond the picture.
    """
    rows, columns = checked_box(box, picture.width, picture.height).slices
    alpha = None if picture.alpha is None else picture.alpha[..., rows, columns].clone()
    color = picture.color[..., rows, columns].clone()
    grey = picture.grey or bool((color == color[:, :1]).all())
    return Picture(color=color, alpha=alpha, notes=picture.notes, grey=grey)


def checked_box(box: tuple[int, int, int, int], width: int, height: int) -> Box:
    """The box. Raises PictureError where it reaches beyond width x height pixels."""
    left, top, wide, high = box
    if min(left, top) < 0 or min(wide, high) < 1 or left + wide > width or top + high > height:
        raise PictureError(
            f"The region at {left}, {top} of {wide} x {high} pixels is not within the picture, "
            f"{width} x {height}; choose one that is."
        )
    return Box(left, top, wide, high)

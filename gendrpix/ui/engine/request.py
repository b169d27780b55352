"""What a visitor asks for, as the engine takes it: the widgets' raw values read, the core checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gendrpix.specs import CHOICE_LABELS, ColorFix

if TYPE_CHECKING:
    from gendrpix.image.picture import Box, Picture
    from gendrpix.settings.restoration import CompareSettings

Photo = Mapping[str, Any]
"""An uploaded file as Gradio describes it: "path" on this machine, "orig_name" on the visitor's."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one press of Run asks for. Only what is missing is found here; the core checks the values."""

    photo: Path
    stem: str
    """The photo's name without its suffix, for the names of the results."""
    photo_name: str
    """The photo's own name, as the visitor knows it."""
    names: tuple[str, ...]
    scale: float | None
    """None where `size_px` is given instead."""
    guidance: float | None
    pos_pad: tuple[int, int]
    neg_pad: tuple[int, int]
    plain_cfg: bool
    truth: Path | None = None
    """The picture as it should be, if the visitor has it."""
    size_px: int | None = None
    """Longer side of the result, in place of the scale."""
    region: Place | None = None
    """What to restore of the photo; None is the whole."""
    repeats: int = 1
    """Timed runs of each restorer."""
    color_fix: ColorFix = "none"
    bits: int = 8
    """Of the PNG to download, 8 or 16 a channel."""

    @classmethod
    def from_widgets(
        cls,
        photo: Photo | None,
        restorers: Sequence[str] | None,
        scale: float | None,
        guidance: str,
        omega: float,
        *offsets: int,
        truth: Photo | None = None,
        **more: Any,
    ) -> Self:
        """The request behind the widgets' raw values; `offsets`: rows and columns of the good run, then of the bad one;
        `more`: the fields that have a default, by their names.

        Raises ValueError with what is missing.
        """
        if not photo:
            raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
        if not restorers:
            raise ValueError("No restorer is chosen. Tick at least one.")
        pos_rows, pos_columns, neg_rows, neg_columns = map(int, offsets)
        return cls(
            photo=Path(photo["path"]),
            stem=Path(photo.get("orig_name") or photo["path"]).stem or "photo",
            photo_name=Path(photo.get("orig_name") or photo["path"]).name,
            names=tuple(restorers),
            scale=scale,
            guidance=None if guidance == "Off" else float(omega),
            pos_pad=(pos_rows, pos_columns),
            neg_pad=(neg_rows, neg_columns),
            plain_cfg=guidance == "Plain CFG",
            truth=Path(truth["path"]) if truth else None,
            **more,
        )


class Place(NamedTuple):
    """A square of a photo: its centre, each 0 to 1, and its side in the photo's pixels."""

    across: float
    down: float
    side_px: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that has been read and checked: the picture, and the restorers in the order they run."""

    picture: Picture
    names: tuple[str, ...]
    settings: CompareSettings
    truth: Picture | None = None
    box: Box | None = None
    """Where in the photo the picture was cut from; None where it is the whole."""
    quickest_first: bool = False
    """Run in the order in which something can be seen soonest."""

    @property
    def labels(self) -> list[str]:
        """The restorers in the order they run."""
        return [CHOICE_LABELS[name] for name in (self.names[::-1] if self.quickest_first else self.names)]


def enlarged(box: Box, scale: float) -> tuple[int, int, int, int]:
    """The region of a truth that belongs to a region of the photo: (left, top, width, height) in its pixels."""
    from gendrpix.image.resize import output_size

    height, width = output_size(box.height, box.width, scale)
    return round(box.left * scale), round(box.top * scale), width, height

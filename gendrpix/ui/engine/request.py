"""What a visitor asks for, as the engine takes it, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS, Box
from gendrpix.ui.engine.late import core

if TYPE_CHECKING:
    from gendrpix.image.picture import Picture

Photo = Mapping[str, Any]
"""An uploaded file as Gradio describes it: "path" on this machine, "orig_name" on the visitor's."""


class Place(NamedTuple):
    """A square of a photo: its centre, each 0 to 1, and its side in pixels."""

    across: float
    down: float
    side_px: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one press of Run asks for."""

    photo: Path
    photo_name: str
    """The photo's own name, as the visitor knows it."""
    names: tuple[str, ...]
    """Restorers by name."""
    settings: RestoreSettings
    """Those of gendr-pix; the other restorers take what concerns them."""
    truth: Path | None = None
    """The picture as it should be, if the visitor has it."""
    region: Place | None = None
    """What to restore of the photo; None is the whole, or the crop of the settings."""
    repeats: int = 1
    """Timed runs of each restorer."""

    @property
    def stem(self) -> str:
        """The photo's name without its suffix, for the names of the results."""
        return Path(self.photo_name).stem or "photo"

    @classmethod
    def of(
        cls,
        photo: Photo | None,
        restorers: Sequence[str] | None,
        settings: RestoreSettings,
        *,
        truth: Photo | None = None,
        **more: Any,
    ) -> Self:
        """The request for an uploaded photo; `more`: further fields. Raises ValueError with what is missing."""
        if not photo:
            raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
        if not restorers:
            raise ValueError("No restorer is chosen. Tick at least one.")
        return cls(
            photo=Path(photo["path"]),
            photo_name=Path(photo.get("orig_name") or photo["path"]).name,
            names=tuple(restorers),
            settings=settings,
            truth=Path(truth["path"]) if truth else None,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that has been read and checked: the picture, and the restorers in the order they run."""

    picture: Picture
    """The photo, or the part of it that the settings' crop names."""
    names: tuple[str, ...]
    settings: RestoreSettings
    truth: Picture | None = None
    warmup: int = 1
    repeats: int = 1
    input_sha256: str | None = None
    """Of the photo's file."""
    quickest_first: bool = False
    """Run in the order in which something can be seen soonest."""

    @property
    def labels(self) -> list[str]:
        """The restorers in the order they run."""
        return [CHOICE_LABELS[name] for name in (self.names[::-1] if self.quickest_first else self.names)]

    @property
    def scale(self) -> float:
        """The factor from the picture to its result."""
        return self.settings.scale_for(self.picture.width, self.picture.height)


def enlarged(box: Box, scale: float) -> Box:
    """The region of a truth that belongs to a region of the photo, in its pixels."""
    height, width = core.output_size(box.height, box.width, scale)
    return Box(round(box.left * scale), round(box.top * scale), width, height)

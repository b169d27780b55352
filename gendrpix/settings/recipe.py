"""What a result was made of, as a text entry in its PNG: told apart from others, a finished job can be skipped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from PIL import PngImagePlugin

from gendrpix import __version__
from gendrpix.settings.checks import (
    PresetError,
    checked_choice,
    checked_crop,
    checked_number,
    checked_text,
    read_object,
)
from gendrpix.settings.presets import Guidance
from gendrpix.settings.reproduce import restorer_name
from gendrpix.specs import (
    CHOICE_LABELS,
    COLOR_FIXES,
    DEFAULT_SPEEDUPS,
    UNGUIDED,
    ColorFix,
)

if TYPE_CHECKING:
    import torch

    from gendrpix.comparison.comparison import Record
    from gendrpix.settings.options import Common

KEYWORD = "gendrpix"
"""Keyword of the PNG text entry that holds the recipe as JSON."""
DEFAULT_SCALE = 4.0
MIN_SCALE, MAX_SCALE = 1.0, 8.0


def png_entries(recipe: Mapping[str, Any]) -> dict[str, str]:
    """PNG text entries (keyword => text) of a recipe: the program, and the recipe as JSON in the order given."""
    return {"Software": f"gendrpix {__version__}", KEYWORD: json.dumps(recipe)}


def read_entry(path: Path) -> str | None:
    """The recipe's text in a PNG, or None where the file is no PNG or has none. No pixel is decoded."""
    try:
        if not path.is_file():  # a pipe would have us wait
            return None
        with path.open("rb") as file, PngImagePlugin.PngImageFile(file) as image:  # `Image.open` refuses large ones
            text = image.info.get(KEYWORD)
    except Exception:  # noqa: BLE001 - whatever is wrong with that file, it is no result of this recipe
        return None
    return text if isinstance(text, str) else None


def pick_scale(width: int, height: int, scale: float | None, size_px: int | None) -> float:
    """The factor for a picture of width x height: `scale` (4 if None), or what makes its longer side `size_px`.

    Raises ValueError where that is not 1 to 8.
    """
    if size_px is None:
        return DEFAULT_SCALE if scale is None else scale
    needed = size_px / max(width, height)
    if not MIN_SCALE <= needed <= MAX_SCALE:
        raise ValueError(
            f"The picture has {width} x {height} pixels, so a longer side of {size_px} is {needed:.3g} times as long; "
            f"choose a longer side of {MIN_SCALE:g} to {MAX_SCALE:g} times."
        )
    return needed


def describe_recipe(options: Common, restorer: str, guidance: float | None, dtype: torch.dtype) -> dict[str, Any]:
    """How a result is made, as JSON values; no paths of the machine. dtype: what it was really computed in."""
    from gendrpix.settings.options import Compare, Restore

    folder = Path(options.weights)
    size = {"scale": options.scale or DEFAULT_SCALE} if options.size is None else {"size": options.size}
    recipe: dict[str, Any] = {
        "restorer": restorer,
        "weights": folder.resolve().name if folder.is_dir() else options.weights,
        **size,
        "guidance": guidance,
        "dtype": str(dtype).removeprefix("torch."),
        "version": __version__,
    }
    if options.crop is not None:
        recipe["crop"] = options.crop
    if guidance is not None:
        plain = isinstance(options, Compare) and options.plain_cfg
        recipe.update({"plain_cfg": True} if plain else {"pos_pad": options.pos_pad, "neg_pad": options.neg_pad})
    if options.color_fix != "none":
        recipe["color_fix"] = options.color_fix
    if options.bits != 8:
        recipe["bits"] = options.bits
    if options.speedups != DEFAULT_SPEEDUPS:
        recipe["speedups"] = options.speedups
    if isinstance(options, Restore) and options.tile != "auto":
        recipe["tile"] = options.tile
    if isinstance(options, Restore) and options.stream:
        recipe["stream"] = True
    return recipe


BITS: tuple[Literal[8, 16], ...] = (8, 16)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a result's PNG says about how it was made."""

    restorer: str
    """A key of `specs.CHOICE_LABELS`."""
    guidance: Guidance
    scale: float | None
    """None where the longer side was given instead."""
    size_px: int | None
    weights: str
    weights_sha256: str
    """Empty where it is not told."""
    color_fix: ColorFix = "none"
    """One of `specs.COLOR_FIXES`."""
    bits: Literal[8, 16] = 8
    """Of the PNG's channels, 8 or 16."""
    crop: tuple[int, ...] | None = None
    """(left, top, width, height) of the part of the photo that was restored; None for the whole."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the recipe's text entry. Raises PresetError where it is none, or its values are out of range."""
        document = read_object(text)
        restorer = document.get("restorer")
        if not isinstance(restorer, str) or restorer not in CHOICE_LABELS:
            raise PresetError(f"The recipe's restorer is {restorer!r:.40}; expected one of {', '.join(CHOICE_LABELS)}.")
        guided = document.get("guidance") is not None and restorer == "gendr-pix"
        fields: dict[str, Any] = {"kind": "none"}
        if guided:
            plain = document.get("plain_cfg", False) is True
            fields = {"kind": "plain" if plain else "padcfg", "omega": document["guidance"]}
            fields.update({key: document[key] for key in ("pos_pad", "neg_pad") if key in document})
        scale, size = document.get("scale"), document.get("size")
        if (scale is None) == (size is None):
            raise PresetError("The recipe has neither a scale nor a size, or both; expected one of them.")
        return cls(
            restorer=UNGUIDED if restorer == "gendr-pix" and not guided else restorer,
            guidance=Guidance(**fields),
            scale=None if scale is None else checked_number("scale", scale, 1.0, 8.0),
            size_px=None if size is None else int(checked_number("size", size, 1, 1_000_000)),
            weights=checked_text("weights", document.get("weights", "")),
            weights_sha256=checked_text("weights_sha256", document.get("weights_sha256", "")),
            color_fix=checked_choice("color_fix", document.get("color_fix", "none"), COLOR_FIXES),
            bits=checked_choice("bits", document.get("bits", 8), BITS),
            crop=checked_crop(document.get("crop")),
        )

    @classmethod
    def from_png(cls, path: Path) -> Self:
        """Read the recipe of a PNG. Raises PresetError where it has none."""

        text = read_entry(path)
        if text is None:
            raise PresetError(
                "This file has no recipe in it; choose a PNG as it was downloaded here, not a copy of it."
            )
        return cls.from_json(text)


def describe(record: Record, *, weights: str, weights_sha256: str | None, input_sha256: str) -> dict[str, Any]:
    """The recipe of a result, as the command line's `restore` writes it: JSON values, no paths of the machine."""
    settings = record.settings
    guidance = settings.guidance if record.name == "gendr-pix" else None
    recipe: dict[str, Any] = {
        "restorer": restorer_name(record),
        "weights": weights,
        "scale": settings.scale,
        "guidance": guidance,
        "dtype": record.dtype or "float32",
        "version": __version__,
    }
    if guidance is not None:
        pads = {"pos_pad": settings.pos_pad, "neg_pad": settings.neg_pad}
        recipe.update({"plain_cfg": True} if settings.plain_cfg else pads)
    if settings.color_fix != "none":
        recipe["color_fix"] = settings.color_fix
    if weights_sha256 is not None:
        recipe["weights_sha256"] = weights_sha256
    return {**recipe, "input_sha256": input_sha256}

"""What a result was made of, as a text entry in its PNG: told apart from others, a finished job can be skipped.

The command line, the page and the examples write the same JSON for the same values, by `write_recipe`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import PngImagePlugin

from gendrpix import __version__
from gendrpix.settings.checks import SettingsError, checked_text, read_object, shown
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS, DEFAULT_SPEEDUPS

KEYWORD = "gendrpix"
"""Keyword of the PNG text entry that holds the recipe as JSON."""
INPUT = "input"
"""Name of the photo that is only resized, beside the restorers' results."""
FIELDS = {
    "scale": "scale",
    "size": "size_px",
    "guidance": "guidance",
    "dtype": "dtype",
    "crop": "crop",
    "plain_cfg": "plain_cfg",
    "pos_pad": "pos_pad",
    "neg_pad": "neg_pad",
    "batched": "batched",
    "color_fix": "color_fix",
    "bits": "bits",
    "speedups": "speedups",
    "tile": "tile",
    "stream": "stream",
}
"""Keys of a recipe => fields of `RestoreSettings`."""


def weights_name(weights: str | Path) -> str:
    """How a recipe names weights: a folder by its own name, a bundled family or hub id as it is. No paths."""
    return Path(weights).resolve().name if Path(weights).is_dir() else str(weights)


def write_recipe(
    settings: RestoreSettings,
    *,
    weights: str,
    weights_sha256: str | None = None,
    input_sha256: str | None = None,
    restorer: str | None = None,
) -> dict[str, Any]:
    """The recipe of a result as JSON values. It names numbers for all that was left to the weights and the device.

    settings: resolved (`RestoreSettings.resolved`), else ValueError. weights: their name (`weights_name`).
    input_sha256: of the photo's file. restorer: another name: "input" for the photo that is only resized, or that of a
    network of others.
    network of others.
    """
    if settings.dtype == "auto" or (settings.kind == "padcfg" and None in settings.pads):
        raise ValueError("A recipe names numbers; call RestoreSettings.resolved(dtype=...) first.")
    size = {"scale": settings.scale} if settings.size_px is None else {"size": settings.size_px}
    recipe: dict[str, Any] = {
        "restorer": restorer or settings.restorer,
        "weights": weights,
        **size,
        "guidance": settings.guidance,
        "dtype": settings.dtype,
        "version": __version__,
    }
    if settings.crop is not None:
        recipe["crop"] = list(settings.crop)
    if settings.kind == "plain":
        recipe["plain_cfg"] = True
    elif settings.kind == "padcfg":
        recipe |= {"pos_pad": settings.pos_pad, "neg_pad": settings.neg_pad}
    usual = {"batched": True, "color_fix": "none", "bits": 8, "speedups": DEFAULT_SPEEDUPS, "tile": "auto"}
    usual["stream"] = False
    recipe |= {key: getattr(settings, key) for key, value in usual.items() if getattr(settings, key) != value}
    digests = {"weights_sha256": weights_sha256, "input_sha256": input_sha256}
    return recipe | {key: digest for key, digest in digests.items() if digest is not None}


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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a result's PNG says about how it was made."""

    settings: RestoreSettings
    weights: str
    weights_sha256: str
    """Empty where it is not told."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the recipe's text entry. Raises SettingsError where it is none, or its values are out of range."""
        document = read_object(text)
        restorer = document.get("restorer")
        if not isinstance(restorer, str) or restorer not in CHOICE_LABELS:
            expected = ", ".join(CHOICE_LABELS)
            raise SettingsError(f"The recipe's restorer is {shown(restorer)}; expected one of {expected}.")
        if (document.get("scale") is None) == (document.get("size") is None):
            raise SettingsError("The recipe has neither a scale nor a size, or both; expected one of them.")
        fields = {field: document[key] for key, field in FIELDS.items() if key in document}
        return cls(
            settings=RestoreSettings(restorer=restorer, **fields),  # type: ignore[arg-type] # checked there
            weights=checked_text("weights", document.get("weights", "")),
            weights_sha256=checked_text("weights_sha256", document.get("weights_sha256", "")),
        )

    @classmethod
    def from_png(cls, path: Path) -> Self:
        """Read the recipe of a PNG. Raises SettingsError where it has none."""
        text = read_entry(path)
        if text is None:
            raise SettingsError(
                "This file has no recipe in it; choose a PNG as it was downloaded here, not a copy of it."
            )
        return cls.from_json(text)

"""Settings of the compare tab as the query of a link, and back. What a link says is checked like any other input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from gendrpix.settings.checks import PresetError, checked_choice, checked_number, checked_offset
from gendrpix.settings.presets import MAX_OMEGA
from gendrpix.settings.recipe import BITS, MAX_SCALE, MIN_SCALE
from gendrpix.specs import CHOICE_LABELS, COLOR_FIXES
from gendrpix.ui.panels.guidance import GUIDANCE_NAMES
from gendrpix.ui.panels.options import MOST_REPEATS
from gendrpix.ui.widgets.inputs import example_photos

if TYPE_CHECKING:
    from gendrpix.settings.recipe import Recipe

PADS = {"pos": ("pos_rows", "pos_columns"), "neg": ("neg_rows", "neg_columns")}
MAX_SIZE_PX = 100_000


def to_query(settings: Mapping[str, Any]) -> str:
    """The settings by name => "restorers=gendr,gendr-pix&scale=4&...". Of photos only the bundled ones have a name."""
    kinds = {label: kind for kind, label in GUIDANCE_NAMES.items()}
    query: dict[str, Any] = {"restorers": ",".join(settings["restorers"])}
    query.update({"size": settings["size_px"]} if settings["by_size"] else {"scale": f"{settings['scale']:g}"})
    query["guidance"] = kinds[settings["guidance"]]
    query["omega"] = f"{settings['omega']:g}"
    query.update({side: ",".join(str(settings[name]) for name in names) for side, names in PADS.items()})
    query.update({name: settings[name] for name in ("repeats", "color_fix", "bits")})
    if settings["crop"]:
        query["crop"] = ",".join(f"{settings[name]:g}" for name in ("across", "down", "side_px"))
    photo = settings["photo"]
    if photo and (name := Path(photo.get("orig_name") or photo["path"]).name) in examples():
        query["example"] = name
    return urlencode(query, safe=",*")


def from_query(query: Mapping[str, str]) -> dict[str, Any]:
    """The settings by name that a link's query names, checked; other keys are not ours. Raises PresetError."""
    kinds = tuple(GUIDANCE_NAMES)
    found: dict[str, Any] = {}
    for key, text in query.items():
        if key == "restorers":
            found[key] = [checked_choice("restorers", name, tuple(CHOICE_LABELS)) for name in text.split(",")]
        elif key == "scale":
            found |= {key: number(key, text, MIN_SCALE, MAX_SCALE), "by_size": False}
        elif key == "size":
            found |= {"size_px": int(number(key, text, 1, MAX_SIZE_PX)), "by_size": True}
        elif key == "guidance":
            found[key] = GUIDANCE_NAMES[checked_choice(key, text, kinds)]
        elif key == "omega":
            found[key] = number(key, text, 0, MAX_OMEGA)
        elif key in PADS:
            pair = [int(number(key, part, 0, 7)) for part in text.split(",")]
            found |= dict(zip(PADS[key], checked_offset(key, pair), strict=True))
        elif key == "repeats":
            found[key] = int(number(key, text, 1, MOST_REPEATS))
        elif key == "color_fix":
            found[key] = checked_choice(key, text, COLOR_FIXES)
        elif key == "bits":
            found[key] = checked_choice(key, int(number(key, text, *BITS)), BITS)
        elif key == "crop":
            found |= crop_place(text)
        elif key == "example":
            found["photo"] = str(examples()[checked_choice(key, text, tuple(examples()))])
    return found


def crop_place(text: str) -> dict[str, Any]:
    """ "50,50,96" => the part of the photo by name."""
    parts = text.split(",")
    if len(parts) != 3:
        raise PresetError(
            f"crop is {text!r:.40}; expected three numbers: percent across, percent down, side in pixels."
        )
    across, down = (number("crop", part, 0, 100) for part in parts[:2])
    return {"crop": True, "across": across, "down": down, "side_px": int(number("crop", parts[2], 16, 512))}


def number(name: str, text: str, low: float, high: float) -> float:
    """The text as a number from low to high. Raises PresetError."""
    try:
        value = float(text)
    except ValueError:
        raise PresetError(f"{name} is {text!r:.40}; expected a number from {low:g} to {high:g}.") from None
    return checked_number(name, value, low, high)


def examples() -> dict[str, Path]:
    """The bundled photos by file name."""
    return {path.name: path for path in example_photos()}


def recipe_line(recipe: Recipe, *, weights: str, weights_sha256: str | None) -> str:
    """What was loaded from a PNG, in a sentence, and a word where these are not its weights."""
    said = f"Settings loaded: {recipe.restorer}, scale {recipe.scale:g}." if recipe.scale else ""
    if recipe.size_px:
        said = f"Settings loaded: {recipe.restorer}, longer side {recipe.size_px} px."
    if recipe.crop:
        said += " It shows the part of its photo at {}, {} of {} × {} pixels.".format(*recipe.crop)
    known, used = recipe.weights_sha256, weights_sha256
    other = known != used if known and used else recipe.weights != weights
    named = re.sub(r"[^\w./@ -]+", "_", recipe.weights)[:80] or "not named"  # a file's text, shown as Markdown
    return f"{said} It was made with other weights ({named})." if other else said

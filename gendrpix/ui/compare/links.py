"""The compare tab's settings as the query of a link, and back. What a link says is checked like any other input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

from gendrpix.settings.checks import SettingsError, checked_choice, checked_choices, checked_number, checked_whole
from gendrpix.settings.links import SAFE, as_number, as_numbers
from gendrpix.settings.links import from_query as read_settings
from gendrpix.settings.links import to_query as write_settings
from gendrpix.settings.presets import guided
from gendrpix.settings.recipe import Recipe
from gendrpix.settings.restoration import Kind, RestoreSettings
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.panels.guidance import GUIDANCE_NAMES
from gendrpix.ui.panels.options import MOST_REPEATS
from gendrpix.ui.widgets.inputs import example_photos

PADS = {"pos": ("pos_rows", "pos_columns"), "neg": ("neg_rows", "neg_columns")}
SIMPLE = ("color_fix", "bits")
"""Settings whose widgets have their names and values."""


def as_settings(given: Mapping[str, Any]) -> RestoreSettings:
    """The tab's values by name as settings of gendr-pix. Raises SettingsError."""
    kinds = {label: kind for kind, label in GUIDANCE_NAMES.items()}
    pads = [[int(given[name]) for name in names] for names in PADS.values()]
    return guided(
        checked_choice("guidance", kinds.get(given["guidance"]), get_args(Kind)),
        given["omega"],
        *pads,
        scale=None if given["by_size"] else given["scale"],
        size_px=given["size_px"] if given["by_size"] else None,
        color_fix=given["color_fix"],
        bits=int(given["bits"]),
    )


def to_query(given: Mapping[str, Any]) -> str:
    """The tab's values by name => "restorers=gendr,gendr-pix&scale=4&...". Of photos the bundled ones have a name."""
    query: dict[str, Any] = {"restorers": ",".join(given["restorers"])}
    query |= {key: text for key, text in write_settings(as_settings(given)).items() if key != "restorer"}
    query["repeats"] = given["repeats"]
    if given["crop"]:
        query["crop"] = ",".join(f"{given[name]:g}" for name in ("across", "down", "side_px"))
    photo = given["photo"]
    if photo and (name := Path(photo.get("orig_name") or photo["path"]).name) in examples():
        query["example"] = name
    return urlencode(query, safe=SAFE)


def from_query(query: Mapping[str, str]) -> dict[str, Any]:
    """The tab's values by name that a link's query names, checked; other keys are not ours. Raises SettingsError."""
    settings = read_settings(query)
    found: dict[str, Any] = {}
    if "restorers" in query:
        found["restorers"] = list(checked_choices("restorers", query["restorers"].split(","), tuple(CHOICE_LABELS)))
    elif "restorer" in query:
        found["restorers"] = [settings.choice]
    if "scale" in query:
        found |= {"scale": settings.scale, "by_size": False}
    if "size" in query:
        found |= {"size_px": settings.size_px, "by_size": True}
    if "guidance" in query:
        found["guidance"] = GUIDANCE_NAMES[settings.kind]
    if settings.guidance is not None:
        found["omega"] = settings.guidance
    for key, pad in zip(PADS, settings.pads, strict=True):
        found |= {} if pad is None else dict(zip(PADS[key], pad, strict=True))
    found |= {key: getattr(settings, key) for key in SIMPLE if key in query}
    if "repeats" in query:
        found["repeats"] = checked_whole("repeats", as_number(query["repeats"]), 1, MOST_REPEATS)
    if "crop" in query:
        found |= crop_place(query["crop"])
    if "example" in query:
        found["photo"] = str(examples()[checked_choice("example", query["example"], tuple(examples()))])
    return found


def crop_place(text: str) -> dict[str, Any]:
    """ "50,50,96" => the part of the photo by name."""
    parts = as_numbers(text)
    if len(parts) != 3:
        raise SettingsError(
            f"crop is {text!r:.40}; expected three numbers: percent across, percent down, side in pixels."
        )
    across, down = (checked_number("crop", part, 0, 100) for part in parts[:2])
    return {"crop": True, "across": across, "down": down, "side_px": checked_whole("crop", parts[2], 16, 512)}


def examples() -> dict[str, Path]:
    """The bundled photos by file name."""
    return {path.name: path for path in example_photos()}


def recipe_line(recipe: Recipe, weights: str, weights_sha256: str | None) -> str:
    """What was loaded from a PNG, in a sentence, and a word where these are not its weights."""
    settings = recipe.settings
    size = f"scale {settings.scale:g}" if settings.size_px is None else f"longer side {settings.size_px} px"
    said = f"Settings loaded: {settings.choice}, {size}."
    if settings.crop:
        said += " It shows the part of its photo at {}, {} of {} × {} pixels.".format(*settings.crop)
    known, used = recipe.weights_sha256, weights_sha256
    other = known != used if known and used else recipe.weights != weights
    named = re.sub(r"[^\w./@ -]+", "_", recipe.weights)[:80] or "not named"  # a file's text, shown as Markdown
    return f"{said} It was made with other weights ({named})." if other else said

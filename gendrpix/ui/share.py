"""How a result is made again: its recipe for the PNG, the command, and the lines of Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gendrpix.settings.recipe import Recipe

GUIDANCE_NAMES = {"padcfg": "PadCFG", "plain": "Plain CFG", "none": "Off"}
"""The page's words for the kinds of guidance."""


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

"""What a result was made of, as a text entry in its PNG: told apart from others, a finished job can be skipped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import PngImagePlugin

from gendrpix import __version__

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


def digest_weights(folder: Path) -> str:
    """SHA-256 of a restorer's folder: names and contents of its configurations and weights, and of a shared VAE's."""
    folders = [folder]
    shared = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("shared_vae")
    if shared:
        folders.append(folder / shared)
    total = hashlib.sha256()
    for number, place in enumerate(folders):
        files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
        for path in files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{number}/{path.relative_to(place).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


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

"""Checks of single settings, with the sentences that users read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from gendrpix.specs import COLOR_FIXES, MIN_TILE_PX, PATCH, Offset

C = TypeVar("C")
MAX_BYTES = 4096


class PresetError(ValueError):
    """Settings that cannot be read, in one sentence for the user."""


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object of at most 4096 bytes, no key twice, no NaN. Raises PresetError."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise PresetError(
            f"The settings have {size} bytes; expected at most {MAX_BYTES}. This is another kind of file."
        )
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        document = json.loads(decoded, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, PresetError):
            raise
        raise PresetError("The settings are no JSON; choose a file that was saved here.") from error
    if not isinstance(document, dict):
        raise PresetError(f"The settings are a {type(document).__name__}; expected a JSON object as saved here.")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise PresetError("The settings name a key twice; choose a file that was saved here.")
    return document


def _no_constant(name: str) -> float:
    raise PresetError(f"The settings hold {name}; expected a finite number.")


def checked_number(name: str, value: object, low: float, high: float) -> float:
    """The value as a float. Raises PresetError unless it is a number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PresetError(f"{name} is {value!r:.40}; expected a number from {low:g} to {high:g}.")
    return float(value)


def checked_offset(name: str, value: object) -> Offset:
    """The value as an offset. Raises PresetError unless it is two whole numbers from 0 to 7."""
    pair = list(value) if isinstance(value, list | tuple) else []
    whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < PATCH for one in pair)
    if len(pair) != 2 or not whole:
        raise PresetError(f"{name} is {value!r:.40}; expected two whole numbers from 0 to {PATCH - 1}: rows, columns.")
    return pair[0], pair[1]


def checked_crop(value: object) -> tuple[int, ...] | None:
    """The value as (left, top, width, height), or None. Raises PresetError for anything else."""
    numbers = value if isinstance(value, list) else []
    whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in numbers)
    if value is not None and (len(numbers) != 4 or not whole):
        raise PresetError(f"crop is {value!r:.40}; expected four whole numbers: left, top, width, height.")
    return None if value is None else tuple(numbers)


def checked_text(name: str, value: object) -> str:
    """The value as a text. Raises PresetError for anything else."""
    if not isinstance(value, str):
        raise PresetError(f"{name} is {value!r:.40}; expected a text.")
    return value


def checked_choice(name: str, value: object, choices: Sequence[C]) -> C:
    """The value as the choice that it equals. Raises PresetError where it is none of them."""
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    raise PresetError(f"{name} is {value!r:.40}; expected one of {', '.join(map(str, choices))}.")


def check_offset(offset: Offset) -> Offset:
    """The offset as two ints. Raises ValueError unless both are 0 to 7."""
    rows, columns = offset
    if not (0 <= rows < PATCH and 0 <= columns < PATCH):
        raise ValueError(f"A padding offset is two numbers from 0 to {PATCH - 1}, (rows, columns); got {offset}.")
    return int(rows), int(columns)


def check_color_fix(kind: str) -> None:
    """Raise ValueError for a correction that is not known."""
    if kind not in COLOR_FIXES:
        raise ValueError(f"The colour correction is {kind!r}; expected one of {', '.join(COLOR_FIXES)}.")


def check_tile(tile_px: int) -> int:
    """The tile's side. Raises ValueError unless it is a multiple of 8 and large enough for the overlap."""
    if tile_px < MIN_TILE_PX or tile_px % PATCH:
        raise ValueError(
            f"The tile has {tile_px} pixels a side; choose a multiple of {PATCH}, {MIN_TILE_PX} or more, "
            "or no tile for the whole picture at once."
        )
    return tile_px

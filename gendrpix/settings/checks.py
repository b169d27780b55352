"""Checks of single settings, with the sentences that users read.

Settings come from a command line, a page, a link, a file or a program. Each value is checked here in one way,
whatever its source, so that it is refused with the same sentence everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from gendrpix.specs import MIN_TILE_PX, PATCH, Box, Offset, TileChoice

C = TypeVar("C")
MAX_BYTES = 4096


class SettingsError(ValueError):
    """Settings that are out of range or cannot be read, in one sentence for the user."""


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object of at most 4096 bytes, no key twice, no NaN. Raises SettingsError."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise SettingsError(
            f"The settings have {size} bytes; expected at most {MAX_BYTES}. This is another kind of file."
        )
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        document = json.loads(decoded, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError("The settings are no JSON; choose a file that was saved here.") from error
    if not isinstance(document, dict):
        raise SettingsError(f"The settings are a {type(document).__name__}; expected a JSON object as saved here.")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise SettingsError("The settings name a key twice; choose a file that was saved here.")
    return document


def _no_constant(name: str) -> float:
    raise SettingsError(f"The settings hold {name}; expected a finite number.")


def shown(value: object) -> str:
    """A value in an error's sentence: short, numbers without a needless ".0"."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return f"{value!r:.40}"


def is_whole(value: object) -> bool:
    """Whether the value is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def checked_number(name: str, value: object, low: float, high: float) -> float:
    """The value as a float. Raises SettingsError unless it is a number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(f"{name} is {shown(value)}; expected a number from {low:g} to {high:g}.")
    return float(value)


def checked_whole(name: str, value: object, low: int, high: int) -> int:
    """The value as an int. Raises SettingsError unless it is a whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value != int(value):
        raise SettingsError(f"{name} is {shown(value)}; expected a whole number from {low} to {high}.")
    return int(value)


def checked_offset(name: str, value: object) -> Offset:
    """The value as an offset. Raises SettingsError unless it is two whole numbers from 0 to 7."""
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(is_whole(one) and 0 <= one < PATCH for one in pair):
        got = shown(pair or value)
        raise SettingsError(f"{name} is {got}; expected two whole numbers from 0 to {PATCH - 1}: rows, columns.")
    return pair[0], pair[1]


def checked_crop(value: object) -> Box:
    """The value as a box: left, top, width, height. Raises SettingsError unless all are whole numbers in range."""
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    if len(numbers) != 4 or not all(is_whole(one) for one in numbers) or min(numbers[:2]) < 0 or min(numbers[2:]) < 1:
        got = shown(numbers or value)
        raise SettingsError(
            f"crop is {got}; expected four whole numbers: left and top from 0, width and height from 1."
        )
    return Box(*numbers)


def checked_tile(value: object) -> TileChoice:
    """The value as a tile's side. Raises SettingsError unless it is None, "auto" or a multiple of 8 from 128."""
    if value is None or value == "auto":
        return "auto" if value == "auto" else None
    if not isinstance(value, int) or isinstance(value, bool) or value < MIN_TILE_PX or value % PATCH:
        raise SettingsError(
            f"tile is {shown(value)}; expected a multiple of {PATCH}, {MIN_TILE_PX} or more, auto, or none for the "
            "whole picture at once."
        )
    return value


def checked_text(name: str, value: object) -> str:
    """The value as a text. Raises SettingsError for anything else."""
    if not isinstance(value, str):
        raise SettingsError(f"{name} is {shown(value)}; expected a text.")
    return value


def checked_flag(name: str, value: object) -> bool:
    """The value as a bool. Raises SettingsError for anything else."""
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {shown(value)}; expected true or false.")
    return value


def checked_choice(name: str, value: object, choices: Sequence[C]) -> C:
    """The value as the choice that it equals. Raises SettingsError where it is none of them."""
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    raise SettingsError(f"{name} is {shown(value)}; expected one of {', '.join(map(str, choices))}.")


def checked_choices(name: str, value: object, choices: Sequence[C]) -> tuple[C, ...]:
    """The values as those choices. Raises SettingsError for what is no list, and where one is none of them."""
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{name} is {shown(value)}; expected a list.")
    return tuple(checked_choice(name, one, choices) for one in value)

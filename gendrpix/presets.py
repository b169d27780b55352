"""Guidance settings by name, and as files: JSON of one's own, or the recipe that a result's PNG carries.

What is read from a file is checked key by key: types, ranges, size. Nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar, get_args

from gendrpix.specs import CHOICE_LABELS, COLOR_FIXES, NEG_PAD, PATCH, POS_PAD, UNGUIDED, ColorFix, Offset

C = TypeVar("C")
Kind = Literal["padcfg", "plain", "none"]
BITS: tuple[Literal[8, 16], ...] = (8, 16)
FORMAT = "gendrpix guidance 1"
MAX_BYTES = 4096
MAX_OMEGA = 3.0
EXPLORED_OMEGA = 1.5
"""Where exploring begins: at 1 the negative branch has no say."""


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


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How GenDR-Pix is guided."""

    kind: Kind = "padcfg"
    """"padcfg"; "plain", both branches unpadded; "none", one unpadded pass (Pix*)."""
    omega: float = EXPLORED_OMEGA
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise PresetError(f"The kind of guidance is {self.kind!r:.40}; expected one of {kinds}.")
        object.__setattr__(self, "omega", checked_number("omega", self.omega, 0.0, MAX_OMEGA))
        for name in ("pos_pad", "neg_pad"):
            object.__setattr__(self, name, checked_offset(name, getattr(self, name)))

    @property
    def offsets(self) -> tuple[Offset | None, Offset | None]:
        """(positive, negative) as a `sweep.BranchBank` takes them: None is unpadded."""
        return (self.pos_pad, self.neg_pad) if self.kind == "padcfg" else (None, None)

    @property
    def mixed_omega(self) -> float:
        """The omega that is mixed with: 1, the positive branch alone, without guidance."""
        return 1.0 if self.kind == "none" else self.omega

    def to_json(self) -> str:
        """The settings as a document that `from_json` reads."""
        document = {
            "format": FORMAT,
            "kind": self.kind,
            "omega": self.omega,
            "pos_pad": list(self.pos_pad),
            "neg_pad": list(self.neg_pad),
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `to_json`'s document. Raises PresetError unless it has exactly these keys, with values in range."""
        document = read_object(text)
        expected = ("format", "kind", "omega", "pos_pad", "neg_pad")
        wrong = [*(set(document) - set(expected)), *(set(expected) - set(document))]
        if wrong:
            raise PresetError(
                f"The settings file has or lacks {min(wrong)!r:.40}; expected exactly {', '.join(expected)}."
            )
        if document["format"] != FORMAT:
            raise PresetError(
                f"The file's format is {document['format']!r:.40}; expected {FORMAT!r}, as this page saves it."
            )
        return cls(**{key: document[key] for key in expected[1:]})


PRESETS: Mapping[str, Guidance] = MappingProxyType(
    {
        "Paper": Guidance(),
        "Plain CFG": Guidance(kind="plain"),
        "None (Pix*)": Guidance(kind="none"),
    }
)
"""The paper's offsets, guidance without them, and no guidance. The paper names no omega; this one is ours."""


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
    """One of `color.COLOR_FIXES`."""
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
        from gendrpix.recipe import read_entry

        text = read_entry(path)
        if text is None:
            raise PresetError(
                "This file has no recipe in it; choose a PNG as it was downloaded here, not a copy of it."
            )
        return cls.from_json(text)

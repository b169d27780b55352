"""Guidance settings by name, and as files: JSON of one's own, or the recipe that a result's PNG carries.

What is read from a file is checked key by key: types, ranges, size. Nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self, get_args

from gendrpix.settings.checks import PresetError, checked_number, checked_offset, read_object
from gendrpix.specs import NEG_PAD, POS_PAD, Offset

Kind = Literal["padcfg", "plain", "none"]
FORMAT = "gendrpix guidance 1"
MAX_OMEGA = 3.0
EXPLORED_OMEGA = 1.5
"""Where exploring begins: at 1 the negative branch has no say."""


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

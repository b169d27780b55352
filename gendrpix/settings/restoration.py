"""The settings of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gendrpix.settings.checks import check_color_fix, check_offset
from gendrpix.specs import (
    CHOICE_LABELS,
    COMPARED_OMEGA,
    NEG_PAD,
    POS_PAD,
    UNGUIDED,
    ColorFix,
    Offset,
)


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """How every restorer of one comparison is run."""

    scale: float = 4.0
    """1 to 8; the output has floor(n * scale + 0.5) pixels a side."""
    guidance: float | None = COMPARED_OMEGA
    """PadCFG's omega for "gendr-pix"; None turns it into "gendr-pix*"."""
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    plain_cfg: bool = False
    """Guide without offsets, for comparison."""
    batched: bool = True
    """Run the two branches as one batch (faster) or one after the other (less memory)."""
    color_fix: ColorFix = "none"
    """Where the results take their broad colours from (`gendrpix.image.color_fix`)."""
    warmup: int = 1
    """Runs at the same size that are not counted."""
    repeats: int = 1
    """Counted runs; the time is their median."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.scale <= 8.0:
            raise ValueError(f"scale is {self.scale}; expected 1 to 8.")
        if self.guidance is not None and not abs(self.guidance) < float("inf"):
            raise ValueError(f"guidance is {self.guidance}; expected a finite number, or none.")
        check_offset(self.pos_pad)
        check_offset(self.neg_pad)
        check_color_fix(self.color_fix)
        if self.warmup < 0 or self.repeats < 1:
            raise ValueError(f"warmup is {self.warmup} and repeats {self.repeats}; expected at least 0 and at least 1.")


def order_choices(choices: Sequence[str], settings: CompareSettings) -> tuple[str, ...]:
    """The choices in the order they run, GenDR first, none twice; Pix without guidance is Pix*.

    Raises ValueError for an unknown one or none.
    """
    unknown = [choice for choice in choices if choice not in CHOICE_LABELS]
    if unknown or not choices:
        got = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"The restorers to compare are some of {', '.join(CHOICE_LABELS)}; got {got}.")
    if settings.guidance is None:
        choices = [UNGUIDED if choice == "gendr-pix" else choice for choice in choices]
    return tuple(name for name in CHOICE_LABELS if name in choices)

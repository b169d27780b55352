"""What a user can ask of a restoration: one object, which alone checks it.

Options of the command line, requests of the page, jobs, endpoints, links, presets and recipes all build it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self, get_args

from gendrpix.settings.checks import (
    SettingsError,
    checked_choice,
    checked_choices,
    checked_crop,
    checked_flag,
    checked_number,
    checked_offset,
    checked_tile,
    checked_whole,
)
from gendrpix.specs import (
    CHOICE_LABELS,
    COLOR_FIXES,
    DEFAULT_OMEGA,
    DEFAULT_SCALE,
    DEFAULT_SPEEDUPS,
    MAX_OMEGA,
    MAX_SCALE,
    MAX_SIZE_PX,
    MIN_SCALE,
    NEG_PAD,
    POS_PAD,
    RESTORER_SPECS,
    UNGUIDED,
    Bits,
    Choice,
    ColorFix,
    Dtype,
    Offset,
    Speedup,
    TileChoice,
    restorer_of,
)

Kind = Literal["padcfg", "plain", "none"]
"""How GenDR-Pix is guided: "padcfg"; "plain", both branches unpadded; "none", one unpadded pass (Pix*)."""


@dataclass(frozen=True, kw_only=True)
class RestoreSettings:
    """How pictures are restored. Raises SettingsError, a ValueError, for what is out of range or makes no sense.

    A value that is not given is completed: the scale is 4 where no size is given, and omega 1.5 where offsets or
    plain_cfg ask for two passes. Offsets that are None are those of the weights (`resolved`).
    """

    restorer: Choice = "gendr-pix"
    """Which restorer. gendr-pix* is gendr-pix without guidance, and is stored as that."""
    scale: float | None = None
    """How many times larger, 1 to 8. It is 4 where neither a scale nor a size is given."""
    size_px: int | None = None
    """Longer side of the result in pixels, in place of the scale."""
    crop: tuple[int, int, int, int] | None = None
    """Restore this part of the picture alone: left, top, width and height in pixels of the picture."""
    guidance: float | None = None
    """PadCFG's omega, 0 to 3, gendr-pix only. None is one pass without guidance."""
    pos_pad: Offset | None = None
    """PadCFG: rows and columns put before the picture in the positive branch, 0 to 7."""
    neg_pad: Offset | None = None
    """The same in the negative branch."""
    plain_cfg: bool = False
    """Guide without offsets, for comparison."""
    tile: TileChoice = "auto"
    """Side of the tiles in pixels of the result, a multiple of 8. Auto is tiles only where memory is short."""
    batched: bool = True
    """Run the two branches as one batch (faster) or one after the other (less memory)."""
    stream: bool = False
    """Write each result to disk as it is made, tile by tile, for results that do not fit into memory."""
    color_fix: ColorFix = "none"
    """Where results take their colours from: as restored, or low frequencies, or mean and contrast, of the input."""
    dtype: Dtype | Literal["auto"] = "auto"
    """Numbers that the networks compute with. Auto is the fastest that change no pixel visibly."""
    bits: Bits = 8
    """Bits a channel in the PNGs."""
    speedups: tuple[Speedup, ...] = DEFAULT_SPEEDUPS
    """Ways to compute faster. Those for CUDA are fp8 and graphs."""

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        choice = checked_choice("restorer", self.restorer, tuple(CHOICE_LABELS))
        put("restorer", restorer_of(choice))
        self._check_size()
        if self.crop is not None:
            put("crop", checked_crop(self.crop))
        self._check_guidance(choice)
        put("tile", checked_tile(self.tile))
        for name in ("batched", "stream"):
            put(name, checked_flag(name, getattr(self, name)))
        put("color_fix", checked_choice("color_fix", self.color_fix, COLOR_FIXES))
        put("dtype", checked_choice("dtype", self.dtype, ("auto", *get_args(Dtype))))
        put("bits", checked_choice("bits", self.bits, get_args(Bits)))
        put("speedups", checked_speedups(self.speedups))
        if self.stream and self.tile is None:
            raise SettingsError("stream restores in tiles; choose a tile or auto, or leave out stream.")
        if self.stream and self.color_fix == "adain":
            raise SettingsError("color_fix adain needs the whole picture at once; choose wavelet, or leave out stream.")

    def _check_size(self) -> None:
        put = partial(object.__setattr__, self)
        if self.scale is not None and self.size_px is not None:
            raise SettingsError("A scale and a size say the same thing twice; give one of them.")
        if self.size_px is not None:
            put("size_px", checked_whole("size", self.size_px, 1, MAX_SIZE_PX))
        else:
            put("scale", check_scale(DEFAULT_SCALE if self.scale is None else self.scale))

    def _check_guidance(self, choice: str) -> None:
        put = partial(object.__setattr__, self)
        put("plain_cfg", checked_flag("plain_cfg", self.plain_cfg))
        pads = {name: pad for name in ("pos_pad", "neg_pad") if (pad := getattr(self, name)) is not None}
        for name, pad in pads.items():
            put(name, checked_offset(name, pad))
        if self.plain_cfg and pads:
            raise SettingsError("plain_cfg guides without offsets; leave out the offsets, or plain_cfg.")
        if self.guidance is None and (pads or self.plain_cfg):
            put("guidance", DEFAULT_OMEGA)
        if self.guidance is None:
            return
        put("guidance", checked_number("guidance", self.guidance, 0.0, MAX_OMEGA))
        if choice == UNGUIDED or not RESTORER_SPECS[choice].guided:
            raise SettingsError(f"guidance is for gendr-pix only, not for {choice}; leave out omega and offsets.")

    # What follows from them ----------------------------------------------------------------------------------------

    @property
    def choice(self) -> Choice:
        """The restorer as users see it: gendr-pix without guidance is gendr-pix*."""
        return UNGUIDED if self.restorer == "gendr-pix" and self.guidance is None else self.restorer

    @property
    def kind(self) -> Kind:
        """How GenDR-Pix is guided."""
        return "none" if self.guidance is None else "plain" if self.plain_cfg else "padcfg"

    @property
    def pads(self) -> tuple[Offset | None, Offset | None]:
        """Offsets of the (positive, negative) branch. None is an unpadded branch, or an offset that is not resolved."""
        return self.pos_pad, self.neg_pad

    @property
    def streams(self) -> bool:
        """Whether results can be written band by band."""
        return self.tile is not None and self.color_fix != "adain"

    def scale_for(self, width: int, height: int) -> float:
        """The scale for a picture of width x height pixels. Raises SettingsError where the size is out of reach."""
        if self.size_px is None:
            assert self.scale is not None
            return self.scale
        try:
            return check_scale(self.size_px / max(width, height))
        except SettingsError as error:
            raise SettingsError(
                f"The picture has {width} x {height} pixels; a longer side of {self.size_px} is out of reach: {error}"
            ) from error

    def resolved(self, *, pos_pad: Offset = POS_PAD, neg_pad: Offset = NEG_PAD, dtype: Dtype | None = None) -> Self:
        """The settings with numbers for all that was left to the weights and the device.

        pos_pad, neg_pad: the weights' own offsets. dtype: what is really computed with.
        """
        named = self if dtype is None else replace(self, dtype=dtype)
        if self.kind != "padcfg":
            return named
        return replace(named, pos_pad=self.pos_pad or pos_pad, neg_pad=self.neg_pad or neg_pad)

    def for_choice(self, choice: str) -> Self:
        """The same for another restorer, without guidance where it knows none."""
        name = checked_choice("restorer", choice, get_args(Choice))
        if name == "gendr-pix":
            return replace(self, restorer=name)
        return replace(self, restorer=name, guidance=None, pos_pad=None, neg_pad=None, plain_cfg=False)


def check_scale(scale: object) -> float:
    """The scale as a float. Raises SettingsError unless it is a number from 1 to 8."""
    return checked_number("scale", scale, MIN_SCALE, MAX_SCALE)


def checked_speedups(names: object) -> tuple[Speedup, ...]:
    """The ways to compute faster. Raises SettingsError for an unknown one, and for two kinds of compilation."""
    found = checked_choices("speedups", names, get_args(Speedup))
    if "compiled" in found and "graphs" in found:
        raise SettingsError("The speed-ups compiled and graphs both compile the network; choose one of them.")
    return found


def order_choices(choices: object, settings: RestoreSettings) -> tuple[Choice, ...]:
    """The choices in the order they run, GenDR first, none twice. Pix without guidance is Pix*.

    Raises SettingsError for an unknown one or none.
    """
    found: tuple[str, ...] = checked_choices("restorers", choices, tuple(CHOICE_LABELS))
    if not found:
        raise SettingsError(f"No restorer is chosen; choose some of {', '.join(CHOICE_LABELS)}.")
    if settings.guidance is None:
        found = tuple(UNGUIDED if choice == "gendr-pix" else choice for choice in found)
    return tuple(name for name in get_args(Choice) if name in found)

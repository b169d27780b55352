"""What files tell of their colours otherwise than by an ICC profile: PNG's chunks, boxes of AVIF and HEIC, EXIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gendrpix.image.boxes import BoxFacts, read_boxes
from gendrpix.image.color_space import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    SRGB,
    Chromaticities,
    ColorSpace,
    from_codes,
    usable,
)

GAIN_MAP_WORDS = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496:-1", b"HDRGainMap", b"hdrgainmap")
GAIN_MAP_NOTE = "gain map for high dynamic range not used: the SDR picture is read"
MAX_CHUNKS = 10_000


@dataclass(frozen=True, kw_only=True)
class Told:
    """The colours that a file tells, beside an ICC profile."""

    space: ColorSpace | None = None
    """Not used where there is a profile, unless overrides_icc."""
    overrides_icc: bool = False
    notes: tuple[str, ...] = ()
    boxes: BoxFacts | None = None
    color_key: tuple[int, ...] | None = None
    """PNG's transparent colour, one or three samples."""


def told_colors(data: bytes, source: Image.Image | Mapping[int, Any], format_name: str) -> Told:
    """What the file `data` tells. source: the opened image, or its EXIF values by their codes."""
    told = Told()
    if format_name == "PNG":
        told = told_by_png(data)
    elif format_name in ("AVIF", "HEIF"):
        told = told_by_boxes(data)
    if told.space is None and is_adobe_rgb(source):
        space = ColorSpace(primaries=ADOBE_RGB, gamma=ADOBE_GAMMA, name="Adobe RGB")
        told = Told(space=space, notes=told.notes, boxes=told.boxes, color_key=told.color_key)
    if format_name in ("JPEG", "MPO") and any(data.find(word) >= 0 for word in GAIN_MAP_WORDS):
        told = Told(space=told.space, notes=(*told.notes, GAIN_MAP_NOTE))
    return told


def told_by_boxes(data: bytes) -> Told:
    """AVIF and HEIC: the codes of the colour box nclx. The decoders have expanded the range and applied the matrix."""
    boxes = read_boxes(data)
    notes = (GAIN_MAP_NOTE,) if boxes.has_gain_map else ()
    if boxes.nclx is None or boxes.has_icc:
        return Told(notes=notes, boxes=boxes)
    space, note = from_codes(boxes.nclx.primaries, boxes.nclx.transfer)
    return Told(space=space, notes=(*notes, note) if note else notes, boxes=boxes)


def told_by_png(data: bytes) -> Told:
    """PNG, third edition: cICP goes before iCCP, that before sRGB, that before gAMA and cHRM."""
    chunks = dict(reversed(list(png_chunks(data))))  # the first of each kind
    trns = chunks.get(b"tRNS", b"")
    key = struct.unpack(f">{len(trns) // 2}H", trns) if len(trns) in (2, 6) else None
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full = chunks[b"cICP"]
        if matrix:
            note = f"colour chunk with matrix {matrix}, which PNG does not allow: not used"
            return Told(notes=(note,), color_key=key)
        space, unknown = from_codes(primaries, transfer, bool(full))
        return Told(space=space, overrides_icc=True, notes=(unknown,) if unknown else (), color_key=key)
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return Told(color_key=key)
    return Told(space=calibrated(chunks), color_key=key)


def calibrated(chunks: Mapping[bytes, bytes]) -> ColorSpace | None:
    """The colour space of gAMA and cHRM; None where neither is there or usable."""
    gamma, primaries = None, SRGB
    if len(chunks.get(b"gAMA", b"")) == 4:
        stored = int.from_bytes(chunks[b"gAMA"], "big") / 100_000
        gamma = 1 / stored if 0.1 <= stored <= 10 else None
    if len(chunks.get(b"cHRM", b"")) == 32:
        white_x, white_y, *rest = (value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        found: Any = (*rest, white_x, white_y)
        chromaticities: Chromaticities = found
        primaries = chromaticities if usable(chromaticities) else SRGB
    if gamma is not None and abs(gamma / 2.2 - 1) < 0.05:
        gamma = None  # how sRGB's curve is written there
    return None if gamma is None and primaries == SRGB else ColorSpace(primaries=primaries, gamma=gamma)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the chunks before the pixels."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"IDAT", b"IEND") or at + 12 + length > len(data):
            return
        yield kind, data[at + 8 : at + 8 + min(length, 1000)]
        at += 12 + length


def is_adobe_rgb(source: Image.Image | Mapping[int, Any]) -> bool:
    """Whether EXIF says Adobe RGB: ColorSpace 2, or the interoperability index R03 of DCF."""
    try:
        if isinstance(source, Image.Image):
            exif = source.getexif()
            camera = exif.get_ifd(0x8769)
            color_space = camera.get(0xA001)
            index = exif.get_ifd(0xA005).get(1) if 0xA005 in camera else None
        else:
            color_space, index = source.get(0xA001), source.get(1)
    except Exception:  # broken EXIF raises almost anything and costs only what it would have told
        return False
    text = index.decode("latin-1") if isinstance(index, bytes) else index
    return color_space == 2 or (isinstance(text, str) and text.rstrip("\0 ") == "R03")

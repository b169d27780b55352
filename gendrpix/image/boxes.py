"""What AVIF and HEIC files tell of their colour in boxes that the decoders do not hand on (ISO/IEC 14496-12, 23008-12).

A small bounded parser: it reads boxes' headers and a few short ones, never more than `MAX_BOXES`, and gives up in
silence on what is broken, since the decoder has the last word on that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MAX_BOXES = 10_000
MAX_DEPTH = 10
CONTAINERS = {b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"}
SAMPLE_ENTRIES = {b"av01", b"hvc1", b"hev1"}
VISUAL_ENTRY_BYTES = 78  # fields of a visual sample entry before its boxes
FULL_BOXES = {b"meta": 4, b"stsd": 8}  # bytes of version, flags and count before the boxes inside
GAIN_MAPS = (b"urn:com:apple:photo:2020:aux:hdrgainmap", b"tmap")


@dataclass(frozen=True)
class Nclx:
    """The numbers of a colour box: codes of ITU-T H.273, and whether the range is full."""

    primaries: int
    transfer: int
    full_range: bool


@dataclass(frozen=True)
class BoxFacts:
    """What the boxes tell of the primary item, or of the first track where there is no item."""

    nclx: Nclx | None = None
    has_icc: bool = False
    has_gain_map: bool = False
    bits: int = 8
    """The most bits a channel that its properties tell."""

    @property
    def is_limited(self) -> bool:
        """Whether black is stored as 16 of 255 and white as 235."""
        return self.nclx is not None and not self.nclx.full_range


def read_boxes(data: bytes) -> BoxFacts:
    """The facts of an AVIF or HEIC file; those that are missing or broken keep their defaults."""
    try:
        found = list(islice(walk(data, 0, len(data), 0), MAX_BOXES))
        return facts(data, found)
    except (struct.error, IndexError, ValueError):
        return BoxFacts()


Found = tuple[bytes, int, int, int]
"""Kind, start and end of the content, depth."""


def walk(data: bytes, start: int, end: int, depth: int) -> Iterator[Found]:
    """The boxes between two offsets, each before those inside it."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        stop = end if size == 0 else start + size
        if (size and size < head) or stop > end:
            return
        content = start + head
        yield kind, content, stop, depth
        inside = kind in CONTAINERS or kind in SAMPLE_ENTRIES
        if inside and depth < MAX_DEPTH:
            skipped = VISUAL_ENTRY_BYTES if kind in SAMPLE_ENTRIES else FULL_BOXES.get(kind, 0)
            yield from walk(data, content + skipped, stop, depth + 1)
        start = stop


def facts(data: bytes, found: list[Found]) -> BoxFacts:
    named = {kind: (start, end) for kind, start, end, _ in reversed(found)}  # the first of each kind
    properties = list(children_of(found, b"ipco"))
    mine = associated(data, named, len(properties))
    if mine is None:  # a sequence without items
        colors = [box for box in found if box[0] == b"colr"]
    else:
        colors = [properties[index] for index in mine if properties[index][0] == b"colr"]
    nclx, has_icc = None, False
    bits = max((bits_of(data, box) for box in (properties or found)), default=8)
    for _, start, end, _ in colors:
        kind = data[start : start + 4]
        if kind in (b"nclx", b"nclc") and nclx is None and end - start >= 10:
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            nclx = Nclx(primaries, transfer, kind == b"nclc" or data[start + 10] >= 128)
        has_icc = has_icc or kind in (b"prof", b"rICC")
    auxiliary = any(
        data.find(GAIN_MAPS[0], start, min(end, start + 200)) >= 0
        for kind, start, end, _ in properties
        if kind == b"auxC"
    )
    return BoxFacts(nclx=nclx, has_icc=has_icc, has_gain_map=auxiliary or has_tone_map_item(data, named), bits=bits)


def bits_of(data: bytes, box: Found) -> int:
    """Bits a channel that a property tells: AV1's configuration or the pixel information; 8 for any other."""
    kind, start, end, _ = box
    if kind == b"av1C" and end - start >= 4:
        return {0b10: 10, 0b11: 12}.get(data[start + 2] >> 5 & 3, 8)
    if kind == b"pixi" and end - start >= 6:
        return data[start + 5]
    return 8


def children_of(found: list[Found], kind: bytes) -> Iterator[Found]:
    """The boxes directly in the first box of that kind."""
    at = next((index for index, box in enumerate(found) if box[0] == kind), None)
    if at is None:
        return
    _, start, end, depth = found[at]
    for box in found[at + 1 :]:
        if box[3] == depth + 1 and start <= box[1] <= end:
            yield box
        elif box[3] <= depth:
            return


def associated(data: bytes, named: dict[bytes, tuple[int, int]], num_properties: int) -> list[int] | None:
    """Indices of the primary item's properties; None where there is no primary item."""
    if b"pitm" not in named or b"ipma" not in named:
        return None
    start, _ = named[b"pitm"]
    primary = struct.unpack_from(">H" if data[start] == 0 else ">I", data, start + 4)[0]
    start, end = named[b"ipma"]
    version, wide = data[start], bool(data[start + 3] & 1)
    count, at = struct.unpack_from(">I", data, start + 4)[0], start + 8
    for _ in range(min(count, MAX_BOXES)):
        if at + 3 > end:
            break
        item = struct.unpack_from(">H" if version == 0 else ">I", data, at)[0]
        at += 2 if version == 0 else 4
        num, at = data[at], at + 1
        code, step = (">H", 2) if wide else (">B", 1)
        mask = 0x7FFF if wide else 0x7F
        if at + num * step > end:
            break
        if item == primary:
            indices = [struct.unpack_from(code, data, at + step * n)[0] & mask for n in range(num)]
            return [index - 1 for index in indices if 1 <= index <= num_properties]
        at += num * step
    return []


def has_tone_map_item(data: bytes, named: dict[bytes, tuple[int, int]]) -> bool:
    """Whether an item of kind "tmap" (ISO 21496-1) is listed."""
    if b"iinf" not in named:
        return False
    start, end = named[b"iinf"]
    inside = walk(data, start + (6 if data[start] == 0 else 8), end, MAX_DEPTH)
    return any(
        kind == b"infe" and data.find(GAIN_MAPS[1], first + 4, min(last, first + 14)) >= 0
        for kind, first, last, _ in islice(inside, MAX_BOXES)
    )

"""A small PNG encoder for 16 bits a channel in colour, which Pillow cannot write (W3C PNG, third edition)."""

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {3: 2, 4: 6}  # channels => PNG colour type: RGB, RGBA
FILTER_SUB, FILTER_UP = 1, 2
BAND_BYTES = 4_000_000  # raw bytes filtered and compressed at a time


def write_png16(target: BinaryIO, pixels: NDArray[np.uint16], metadata: Mapping[str, str]) -> None:
    """Write an (H, W, 3 or 4) uint16 array, RGB or RGBA (not premultiplied), as a 16-bit sRGB PNG.

    metadata: keyword (1 to 79 Latin-1 characters) => text, one chunk each. ValueError for another
    shape or dtype.
    """
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in COLOR_TYPES or 0 in pixels.shape:
        raise ValueError(f"got {pixels.dtype} {pixels.shape}; expected uint16 (H, W, 3) or (H, W, 4) with no zero side")
    height, width, channels = pixels.shape
    target.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    write_chunk(target, b"IHDR", header)
    write_chunk(target, b"sRGB", b"\x01")  # rendering intent: relative colorimetric
    for keyword, text in metadata.items():
        write_chunk(target, *text_chunk(keyword, text))
    compressor = zlib.compressobj(6)
    rows_per_band = max(1, BAND_BYTES // (width * channels * 2))
    for top in range(0, height, rows_per_band):
        rows = pixels[max(0, top - 1) : top + rows_per_band]
        raw = np.ascontiguousarray(rows, dtype=">u2").view(np.uint8).reshape(len(rows), width * channels * 2)
        filtered = filter_rows(raw, channels * 2, has_row_above=top > 0)
        if data := compressor.compress(filtered.tobytes()):
            write_chunk(target, b"IDAT", data)
    write_chunk(target, b"IDAT", compressor.flush())
    write_chunk(target, b"IEND", b"")


def filter_rows(raw: NDArray[np.uint8], pixel_bytes: int, has_row_above: bool) -> NDArray[np.uint8]:
    """(rows, bytes) => the same rows with a filter byte in front: Up, and Sub for the picture's first row.

    Where has_row_above, the first row of raw belongs to the band above and only serves as the reference.
    """
    if has_row_above:
        first, rest = raw[:0], raw[1:] - raw[:-1]
    else:
        first, rest = raw[:1].copy(), raw[1:] - raw[:-1]
        first[:, pixel_bytes:] -= raw[:1, :-pixel_bytes]
    filters = np.repeat(np.array([FILTER_SUB, FILTER_UP], np.uint8), [len(first), len(rest)])
    return np.concatenate([filters[:, None], np.concatenate([first, rest])], axis=1)


def text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """(chunk type, data): tEXt where the text is Latin-1, else iTXt (UTF-8). ValueError for a bad keyword."""
    check_keyword(keyword)
    key = keyword.encode("latin-1")
    try:
        return b"tEXt", key + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8")


def check_keyword(keyword: str) -> None:
    """Raise ValueError unless the keyword is one that PNG allows: 1 to 79 printable Latin-1 characters."""
    printable = all(32 <= ord(letter) <= 126 or 161 <= ord(letter) <= 255 for letter in keyword)
    if not 1 <= len(keyword) <= 79 or not printable or keyword != keyword.strip():
        raise ValueError(f"PNG keyword {keyword!r}: use 1 to 79 printable Latin-1 characters without outer blanks")


def write_chunk(target: BinaryIO, kind: bytes, data: bytes) -> None:
    """One chunk: length, type, data, CRC-32 of type and data."""
    target.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

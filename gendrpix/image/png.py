"""A small PNG encoder for what Pillow cannot write: 16 bits a channel, and a picture that comes in bands.

After the W3C's PNG specification, third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels => PNG colour type: grey, grey and alpha, RGB, RGBA
FILTER_SUB, FILTER_UP = 1, 2
BAND_BYTES = 4_000_000  # raw bytes filtered and compressed at a time


def write_png16(target: BinaryIO, pixels: NDArray[np.uint16], metadata: Mapping[str, str]) -> None:
    """Write an (H, W, 1 to 4) uint16 array, grey or RGB with or without alpha, as a 16-bit sRGB PNG.

    metadata: keyword (1 to 79 Latin-1 characters) => text, one chunk each. ValueError for another
    shape or dtype.
    """
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in COLOR_TYPES or 0 in pixels.shape:
        raise ValueError(f"got {pixels.dtype} {pixels.shape}; expected uint16 (H, W, 1 to 4) with no zero side")
    height, width, channels = pixels.shape
    stream = PngStream(target, width, height, channels=channels, bits=16, metadata=metadata)
    stream.write(pixels)
    stream.close()


class PngStream:
    """An sRGB PNG, grey or RGB, 8 or 16 bits a channel, written band by band: no more than a band is ever held."""

    def __init__(
        self,
        target: BinaryIO,
        width: int,
        height: int,
        *,
        channels: int = 3,
        bits: int = 8,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the header. metadata as for `write_png16`. ValueError for other channels, bits or a zero side."""
        if channels not in COLOR_TYPES or bits not in (8, 16) or min(width, height) < 1:
            raise ValueError(
                f"got {width} x {height} pixels, {channels} channels of {bits} bits; expected sides of at least 1, "
                "1 to 4 channels of 8 or 16 bits"
            )
        self.shape = (height, width, channels)
        self._dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self._target = target
        self._compressor = zlib.compressobj(6)
        self._above: NDArray[np.uint8] | None = None
        self._num_rows = 0
        target.write(SIGNATURE)
        header = struct.pack(">IIBBBBB", width, height, bits, COLOR_TYPES[channels], 0, 0, 0)
        write_chunk(target, b"IHDR", header)
        write_chunk(target, b"sRGB", b"\x01")  # rendering intent: relative colorimetric
        for keyword, text in (metadata or {}).items():
            write_chunk(target, *text_chunk(keyword, text))

    def write(self, rows: NDArray[Any]) -> None:
        """The next rows, (any number, W, channels) uint8 or uint16. ValueError for what does not fit."""
        height, width, channels = self.shape
        if rows.dtype != self._dtype or rows.shape[1:] != (width, channels) or self._num_rows + len(rows) > height:
            raise ValueError(
                f"got {rows.dtype} {rows.shape} after {self._num_rows} rows; expected {self._dtype} "
                f"(at most {height - self._num_rows}, {width}, {channels})"
            )
        row_bytes = width * channels * self._dtype.itemsize
        rows_per_band = max(1, BAND_BYTES // row_bytes)
        for top in range(0, len(rows), rows_per_band):
            band = np.ascontiguousarray(rows[top : top + rows_per_band], dtype=self._dtype.newbyteorder(">"))
            raw = band.view(np.uint8).reshape(len(band), row_bytes)
            known = raw if self._above is None else np.concatenate([self._above, raw])
            filtered = filter_rows(known, channels * self._dtype.itemsize, has_row_above=self._above is not None)
            if data := self._compressor.compress(filtered.tobytes()):
                write_chunk(self._target, b"IDAT", data)
            self._above = raw[-1:].copy()
        self._num_rows += len(rows)

    def close(self) -> None:
        """Write what is left and the end. ValueError where rows are missing."""
        if self._num_rows != self.shape[0]:
            raise ValueError(f"got {self._num_rows} rows; expected {self.shape[0]}")
        write_chunk(self._target, b"IDAT", self._compressor.flush())
        write_chunk(self._target, b"IEND", b"")


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

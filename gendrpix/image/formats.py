"""The accepted formats: how files begin, which plug-in of Pillow opens them, how long that may take.

Pillow does the parsing; this module decides what may reach it. It calls the one plug-in that the file's first
bytes ask for, not `Image.open`, whose pixel limit is one for the whole process and at first only a warning.
No global of Pillow is changed, so any number of threads may decode at once.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from gendrpix.errors import PictureError
from gendrpix.image.picture import Limits, check_size

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".webp", ".tif", ".tiff",
    ".bmp", ".dib", ".gif", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif",
)  # fmt: skip
"""Names' endings of the accepted formats, as browsers (.jfif, .pjp), cameras (.mpo, .hif) and programs write them."""
MAX_COUNTED_BYTES = 1_000_000  # counting a GIF's frames walks through the file: only small ones are counted


class Clock:
    """The time that decoding one picture may take; it runs from when it is made."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise PictureError once the time is over."""
        if time.monotonic() > self._end:
            raise PictureError(
                f"{self._name} took longer to decode than the limit of {self._seconds:g} seconds; "
                "make it smaller or save it anew."
            )


class TimedBytes(io.BytesIO):
    """A file's bytes that can be read until the time is over: Pillow's loops over them end then."""

    def __init__(self, data: bytes, clock: Clock) -> None:
        super().__init__(data)
        self._clock = clock

    def read(self, size: int | None = -1, /) -> bytes:
        self._clock.check()
        return super().read(size)


def too_many_bytes(name: str, limits: Limits) -> PictureError:
    return PictureError(
        f"{name} is larger than the limit of {limits.max_bytes:,} bytes; "
        "save it in a compressed format or make it smaller."
    )


def identify(file: BinaryIO, name: str, limits: Limits) -> ImageFile.ImageFile:
    """Parse the header with the one plug-in that the first bytes call for; no pixel is decoded yet."""
    prefix = file.read(32)
    if prefix[:4] == b"RIFF":  # libwebp reserves memory for the whole canvas as it opens a file
        check_size(*webp_canvas(prefix), limits)
    for plugin in plugins():
        if not plugin.accepts(prefix):
            continue
        try:
            file.seek(0)
            return plugin.factory(file, "")
        except PictureError:  # the time is over
            raise
        except Exception as error:  # plug-ins raise almost anything on a damaged file
            if prefix[8:12] in SHARED_BRANDS:  # begins alike in HEIC and AVIF: let the next one try
                continue
            raise refusal(name, plugin.name, error) from error
    if prefix.startswith(RAW_PREFIXES) or prefix[4:12] == b"ftypcrx ":
        raise raw_refusal(name)
    if prefix[4:8] == b"ftyp" and prefix[8:12] in HEIC_BRANDS:
        raise PictureError(f"{name} is a HEIC picture, which needs the package pillow-heif; save it as JPEG or PNG.")
    raise PictureError(f"{name} is not a picture in an accepted format; use {accepted_formats()}.")


def accepted_formats() -> str:
    """The formats in words; HEIC with its package's name only where that is missing."""
    known = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF"
    has_heic = any(plugin.name == "HEIC" for plugin in plugins())
    return f"{known} or HEIC" if has_heic else f"{known}, or HEIC with the package pillow-heif"


def raw_refusal(name: str) -> PictureError:
    return PictureError(
        f"{name} is a raw file of a camera, which holds sensor data and only a small preview picture; "
        "develop it to TIFF, PNG or JPEG with the camera's program, darktable or RawTherapee."
    )


@dataclass(frozen=True)
class Plugin:
    """One accepted format: how its files begin and Pillow's class for them."""

    name: str
    accepts: Callable[[bytes], bool]
    factory: Callable[[BinaryIO, str], ImageFile.ImageFile]


RAW_PREFIXES = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM")
"""Raw files of cameras that are no TIFF: Fujifilm, Panasonic, Olympus, Sigma, Minolta."""
RAW_SUFFIXES = (
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw",
    ".3fr", ".fff", ".iiq", ".mos", ".mrw", ".kdc", ".dcr", ".erf", ".mef", ".rwl", ".x3f",
)  # fmt: skip
TIFF_PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SHARED_BRANDS = (b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis", *SHARED_BRANDS)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", *SHARED_BRANDS)


def plugins() -> list[Plugin]:
    """The accepted formats. HEIC is one where the optional package pillow-heif can be imported."""
    found = [
        Plugin("PNG", lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
        Plugin("JPEG", lambda start: start.startswith(b"\xff\xd8\xff"), JpegImagePlugin.jpeg_factory),
        Plugin(
            "WebP",
            lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP",
            WebPImagePlugin.WebPImageFile,
        ),
        Plugin("TIFF", lambda start: start[:4] in TIFF_PREFIXES, TiffImagePlugin.TiffImageFile),
        Plugin("BMP", lambda start: start.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
        Plugin("GIF", lambda start: start.startswith((b"GIF87a", b"GIF89a")), GifImagePlugin.GifImageFile),
        Plugin(
            "AVIF",
            lambda start: start[4:8] == b"ftyp" and start[8:12] in AVIF_BRANDS,
            AvifImagePlugin.AvifImageFile,
        ),
    ]
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return found
    return [
        *found,
        Plugin("HEIC", lambda start: start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS, HeifImageFile),
    ]


def webp_canvas(data: bytes) -> tuple[int, int]:
    """(width, height) from a WebP file's first 30 bytes; (1, 1) where they are not there."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    return 1, 1


def frame_note(image: ImageFile.ImageFile, num_bytes: int) -> str | None:
    """ "first of 12 frames" for an animation or a file of many pages."""
    try:
        if not getattr(image, "is_animated", False):
            return None
        if num_bytes > MAX_COUNTED_BYTES and image.format == "GIF":
            return "first of several frames"
        count = int(getattr(image, "n_frames", 2))
        image.seek(0)
    except Exception:  # a later frame is damaged: the first one may still be whole
        return "first of several frames"
    return f"first of {count} frames" if count > 1 else None


def refusal(name: str, format_name: str, error: Exception) -> PictureError:
    """The sentence for an exception that a plug-in raised."""
    if isinstance(error, MemoryError):
        return PictureError(f"{name} needs more memory than is free; make it smaller.")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return PictureError(f"{name} holds a part with more pixels than its header admits; save it anew.")
    return PictureError(
        f"{name} is damaged, cut short or of a kind of {format_name} that cannot be read; "
        "send it again or save it anew."
    )

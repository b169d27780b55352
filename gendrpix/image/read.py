"""Picture files => sRGB samples in [0, 1]: the checks and the decoding behind `gendrpix.image.read.open_picture`.

Pillow does the parsing; this module decides what may reach it. It calls the one plug-in that the file's first
bytes ask for, not `Image.open`, whose pixel limit is one for the whole process and at first only a warning.
No global of Pillow is changed, so any number of threads may decode at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
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
from gendrpix.files import quoted
from gendrpix.image.picture import DEFAULT_LIMITS, Limits, Picture, check_size
from gendrpix.image.srgb import Samples, samples

FORMATS = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, or HEIC with the package pillow-heif"
MAX_COUNTED_BYTES = (
    1_000_000  # counting the frames of a GIF or TIFF walks through the file: only small ones are counted
)
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upright sRGB picture: color (3, H, W), not premultiplied, alpha (H, W) or None; float32, [0, 1]."""

    color: Samples
    alpha: Samples | None
    notes: tuple[str, ...]


def decode_bytes(data: bytes, name: str, limits: Limits) -> Decoded:
    """The first frame of an encoded picture; name stands in the messages. Raises PictureError."""
    if not data:
        raise PictureError(f"{name} is empty (0 bytes); choose a picture file.")
    if len(data) > limits.max_bytes:
        raise too_many_bytes(name, limits)
    clock = Clock(name, limits.max_seconds)
    with identify(TimedBytes(data, clock), name, limits) as image:
        return decode_image(image, name, limits, frame_note=frame_note(image, len(data)), clock=clock)


def upright_size(file: BinaryIO, name: str, limits: Limits) -> tuple[int, int]:
    """(width, height) from a picture file's header, turned as its EXIF orientation says. Raises PictureError."""
    with identify(file, name, limits) as image:
        check_size(image.width, image.height, limits)
        try:
            turned = image.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
        except Exception:  # as `upright` does
            turned = False
        return (image.height, image.width) if turned else (image.width, image.height)


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
    if prefix[4:8] == b"ftyp" and prefix[8:12] in HEIC_BRANDS:
        raise PictureError(f"{name} is a HEIC picture, which needs the package pillow-heif; save it as JPEG or PNG.")
    raise PictureError(f"{name} is not a picture in an accepted format; use {FORMATS}.")


@dataclass(frozen=True)
class Plugin:
    """One accepted format: how its files begin and Pillow's class for them."""

    name: str
    accepts: Callable[[bytes], bool]
    factory: Callable[[BinaryIO, str], ImageFile.ImageFile]


TIFF_PREFIXES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SHARED_BRANDS = (b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis", *SHARED_BRANDS)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", *SHARED_BRANDS)


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
        if num_bytes > MAX_COUNTED_BYTES and image.format in ("GIF", "TIFF"):
            return "first of several frames"
        count = int(getattr(image, "n_frames", 2))
        image.seek(0)
    except Exception:  # a later frame is damaged: the first one may still be whole
        return "first of several frames"
    return f"first of {count} frames" if count > 1 else None


def decode_image(
    image: Image.Image, name: str, limits: Limits, frame_note: str | None = None, clock: Clock | None = None
) -> Decoded:
    """Decode an opened image: size check, samples, orientation, colour. The given object stays as it is."""
    clock = clock or Clock(name, limits.max_seconds)
    check_size(image.width, image.height, limits)
    notes = [frame_note] if frame_note else []
    if ";16" in stored_mode(image) and not image.mode.startswith("I"):
        notes.append("16 bits a channel read as 8")
    try:
        image.load()
        check_size(image.width, image.height, limits)
        clock.check()
        image, orientation_note = upright(image)
        color, alpha, color_note = samples(image)
        clock.check()
    except PictureError:
        raise
    except Exception as error:
        raise refusal(name, image.format or "picture", error) from error
    notes += [note for note in (orientation_note, color_note) if note]
    return Decoded(color=color, alpha=alpha, notes=tuple(notes))


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


def stored_mode(image: Image.Image) -> str:
    """The sample layout in the file, "RGB;16B" for instance, or "". To be asked before load()."""
    tiles = getattr(image, "tile", None) or []
    arguments: Any = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def upright(image: Image.Image) -> tuple[Image.Image, str | None]:
    """The loaded image turned as its EXIF orientation says (Pillow itself has turned a TIFF), and a note."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF raises almost anything and costs only the orientation
        return image, "EXIF data unreadable: shown as stored"
    method = ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return (image, None) if method is None else (image.transpose(method), None)


SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif")


def open_picture(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image, limits: Limits = DEFAULT_LIMITS
) -> Picture:
    """Read a picture from a file's path, its bytes, an open binary file or a PIL image.

    Files: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, HEIC (with pillow-heif), told by their content; of several
    frames the first. The header's size is checked before a pixel is decoded. EXIF orientation is applied, ICC
    profiles are converted to sRGB, grey becomes three equal channels. 16-bit grey keeps its precision; 16-bit
    colour is read as 8-bit, and a note says so.
    Raises PictureError, one sentence, for whatever is refused.
    """
    if isinstance(source, Image.Image):
        return from_decoded(decode_image(source, "The picture", limits))
    if isinstance(source, bytes | bytearray | memoryview):
        return from_decoded(decode_bytes(bytes(source), "The file", limits))
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return from_decoded(decode_bytes(read_file(path, limits), quoted(path), limits))
    data = source.read(limits.max_bytes + 1)
    if not isinstance(data, bytes):
        raise PictureError(f"The open file gives {type(data).__name__}, not bytes; open it in binary mode.")
    return from_decoded(decode_bytes(data, "The file", limits))


def open_hashed(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[Picture, str]:
    """A picture file, read and decoded once, and the SHA-256 of its bytes. Raises PictureError."""
    data = read_file(path, limits)
    return from_decoded(decode_bytes(data, quoted(path), limits)), hashlib.sha256(data).hexdigest()


def read_size(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Upright (height, width) of a picture file, from its header alone. Raises PictureError, and OSError."""
    with path.open("rb") as file:
        width, height = upright_size(file, quoted(path), limits)
    return height, width


def read_file(path: Path, limits: Limits) -> bytes:
    """The bytes of a regular file within the byte limit. Raises PictureError."""
    try:
        if path.is_dir():
            raise PictureError(f"{quoted(path)} is a folder; choose a picture file.")
        if not path.is_file():
            raise PictureError(f"{quoted(path)} is not there or is no ordinary file; check the path.")
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        reason = getattr(error, "strerror", None) or "the name is not usable"
        raise PictureError(f"{quoted(path)} cannot be read ({reason}); check its permissions.") from error
    if len(data) > limits.max_bytes:
        raise too_many_bytes(quoted(path), limits)
    return data


def from_decoded(decoded: Decoded) -> Picture:
    color = torch.from_numpy(decoded.color)[None].mul_(2).sub_(1)
    alpha = None if decoded.alpha is None else torch.from_numpy(np.ascontiguousarray(decoded.alpha))[None, None]
    return Picture(color=color, alpha=alpha, notes=decoded.notes)


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The paths that are files, and for each folder the picture files directly in it, sorted; none twice.

    Files named one by one are kept whatever their suffix; in folders the suffix decides and hidden files are
    left out. Raises PictureError for a path that does not exist and for a folder without pictures.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if is_picture_name(item) and item.is_file())
            if not inside:
                raise PictureError(
                    f"The folder {quoted(path)} holds no pictures ({', '.join(SUFFIXES)}); choose another."
                )
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise PictureError(f"{quoted(path)} is not there; check the path.")
    return list(found)


def is_picture_name(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")

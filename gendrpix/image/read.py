"""Picture files => sRGB pictures: `open_picture`, the one gate for all of them, and finding them in folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from gendrpix.errors import PictureError
from gendrpix.files import quoted
from gendrpix.image.color_space import to_srgb
from gendrpix.image.color_tags import Told, told_colors
from gendrpix.image.deep import Deep, deep_of, deep_to_srgb, grey_of
from gendrpix.image.formats import (
    RAW_SUFFIXES,
    SUFFIXES,
    TIFF_PREFIXES,
    Clock,
    TimedBytes,
    frame_note,
    identify,
    raw_refusal,
    refusal,
    too_many_bytes,
)
from gendrpix.image.picture import DEFAULT_LIMITS, Limits, Picture, check_size, checked_box
from gendrpix.image.srgb import Samples, samples
from gendrpix.image.tiff import TiffPage, open_tiff, read_samples, reader_of
from gendrpix.image.transparency import fill_hidden
from gendrpix.specs import Box, Crop

ORIENTATION_TAG = 0x0112
RLE4 = 2  # a compression of BMP: Pillow 12.3 miscounts its odd runs


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upright sRGB picture: color (3, H, W), not premultiplied, alpha (H, W) or None; float32, [0, 1]."""

    color: Samples
    alpha: Samples | None
    notes: tuple[str, ...]
    grey: bool = False


def decode_bytes(data: bytes, name: str, limits: Limits, crop: Crop | None = None) -> Decoded:
    """The first frame of an encoded picture, or the part in `crop` (`Limits.max_read_pixels`); name is for messages.

    Raises PictureError.
    """
    if not data:
        raise empty(name)
    if len(data) > limits.max_bytes:
        raise too_many_bytes(name, limits)
    if crop is not None:
        check_size(crop[2], crop[3], limits)
        limits = replace(limits, max_pixels=limits.max_read_pixels)
    clock = Clock(name, limits.max_seconds)
    if data[:4] in TIFF_PREFIXES:
        return decode_tiff(data, name, limits, clock, crop)
    with identify(TimedBytes(data, clock), name, limits) as image:
        notes = [note for note in [frame_note(image, len(data))] if note]
        return decode_image(image, name, limits, notes=notes, clock=clock, data=data, crop=crop)


def empty(name: str) -> PictureError:
    return PictureError(f"{name} is empty (0 bytes); choose a picture file.")


def decode_tiff(data: bytes, name: str, limits: Limits, clock: Clock, crop: Crop | None) -> Decoded:
    """The page of a TIFF that is the picture, or a part of it, its samples read as the tags say."""
    file = TimedBytes(data, clock)
    found = tiff_page(file, name)
    try:
        if reader_of(found, name, limits) == "tifffile":
            told = told_colors(data, found.exif, "TIFF")
            box = None if crop is None else stored_box(crop, found.orientation, *found.size)
            deep = read_samples(found, name, box)
            deep = replace(deep, space=deep.space or told.space)
            clock.check()
            return finish_deep(deep, limits, told, list(found.notes), deep.orientation)
    except PictureError:
        raise
    except Exception as error:  # as for Pillow's plug-ins
        raise refusal(name, "TIFF", error) from error
    file.seek(0)
    with identify(file, name, limits) as image:
        try:
            image.seek(found.index or 0)
        except Exception as error:
            raise refusal(name, "TIFF", error) from error
        return decode_image(image, name, limits, notes=list(found.notes), clock=clock, data=data, crop=crop)


def tiff_page(file: BinaryIO, name: str) -> TiffPage:
    """`open_tiff` with its errors in a sentence."""
    if name.lower().rstrip("\"'“”").endswith(RAW_SUFFIXES):
        raise raw_refusal(name)
    try:
        return open_tiff(file, name)
    except PictureError:
        raise
    except Exception as error:
        raise refusal(name, "TIFF", error) from error


def upright_size(file: BinaryIO, name: str, limits: Limits) -> tuple[int, int]:
    """(width, height) from a picture file's header, turned as its EXIF orientation says. Raises PictureError."""
    prefix = file.read(4)
    file.seek(0)
    if not prefix:
        raise empty(name)
    if prefix in TIFF_PREFIXES:
        found = tiff_page(file, name)
        width, height = found.size
        turned = found.orientation in (5, 6, 7, 8)
        check_size(width, height, limits)
        return (height, width) if turned else (width, height)
    with identify(file, name, limits) as image:
        check_size(image.width, image.height, limits)
        turned = orientation_of(image)[0] in (5, 6, 7, 8)
        return (image.height, image.width) if turned else (image.width, image.height)


def decode_image(
    image: Image.Image,
    name: str,
    limits: Limits,
    *,
    notes: list[str] | None = None,
    clock: Clock | None = None,
    data: bytes = b"",
    crop: Crop | None = None,
) -> Decoded:
    """Decode an opened image: size check, samples, orientation, colour. The given object stays as it is.

    data: the file it comes from; without it 16 bits a channel in colour cannot be read, and Pillow has none.
    crop: the part of the upright picture that is wanted.
    """
    clock = clock or Clock(name, limits.max_seconds)
    notes = list(notes or [])
    check_size(image.width, image.height, limits)
    if image.format in ("BMP", "DIB") and image.info.get("compression") == RLE4:
        raise PictureError(f"{name} is a BMP of 4 bits with run lengths, which Pillow reads wrongly; save it as PNG.")
    stored, kind = stored_mode(image), image.format or "picture"
    try:
        told = told_colors(data, image, image.format or "")
        deep = deep_of(image, data, told, stored) if data else None
        if deep is None:
            image.load()
        check_size(image.width, image.height, limits)
        clock.check()
        orientation, orientation_note = orientation_of(image)
        notes += [orientation_note] if orientation_note else []
        if deep is None and (image.mode == "F" or image.mode.startswith("I")):
            deep = grey_of(image, told)
        if deep is not None:
            return finish_deep(part_of_deep(deep, crop, orientation), limits, told, notes, orientation)
        if crop is not None:
            left, top, width, height = stored_box(crop, orientation, *image.size)
            image = image.crop((left, top, left + width, top + height))
        if told.overrides_icc:
            image = image.copy()
            image.info.pop("icc_profile", None)
        color, alpha, color_note = samples(image)
        notes += [color_note] if color_note else []
        if told.space is not None and image.mode not in ("CMYK", "LAB") and "icc_profile" not in image.info:
            color, color_note = to_srgb(color, told.space)
            notes += [color_note] if color_note else []
        clock.check()
        return finish(color, alpha, notes, told, orientation)
    except PictureError:
        raise
    except Exception as error:
        raise refusal(name, kind, error) from error


def part_of_deep(deep: Deep, crop: Crop | None, orientation: int) -> Deep:
    """The part of the samples that is wanted of the upright picture."""
    if crop is None:
        return deep
    height, width = deep.values.shape[:2]
    rows, columns = stored_box(crop, orientation, width, height).slices
    alpha = None if deep.alpha is None else deep.alpha[rows, columns]
    return replace(deep, values=deep.values[rows, columns], alpha=alpha)


def finish_deep(deep: Deep, limits: Limits, told: Told, notes: list[str], orientation: int) -> Decoded:
    """From samples of many bits to the picture."""
    height, width = deep.values.shape[:2]
    check_size(width, height, limits)
    color, color_notes = deep_to_srgb(deep)
    return finish(color, deep.alpha, [*notes, *color_notes], told, orientation)


def finish(color: Samples, alpha: Samples | None, notes: list[str], told: Told, orientation: int) -> Decoded:
    """Turn the picture upright, put visible colours under its transparency, and see whether it is grey."""
    color = np.ascontiguousarray(turn(color, orientation))
    if alpha is not None:
        alpha = np.ascontiguousarray(turn(alpha, orientation))
        fill_hidden(color, alpha)
    grey = len(color) == 1 or all(np.array_equal(color[0], other) for other in color[1:])
    if len(color) == 1:
        color = np.repeat(color, 3, axis=0)
    notes = list(dict.fromkeys([*notes, *told.notes]))
    return Decoded(color=color, alpha=alpha, notes=tuple(notes), grey=grey)


def stored_box(crop: Crop, orientation: int, width: int, height: int) -> Box:
    """Where a part of the upright picture lies in the stored one, width x height pixels. Raises PictureError."""
    turned = orientation in (5, 6, 7, 8)
    upright_width, upright_height = (height, width) if turned else (width, height)
    left, top, wide, high = checked_box(crop, upright_width, upright_height)
    if orientation in (2, 3, 6, 7):
        left = upright_width - left - wide
    if orientation in (3, 4, 7, 8):
        top = upright_height - top - high
    return Box(top, left, high, wide) if turned else Box(left, top, wide, high)


def stored_mode(image: Image.Image) -> str:
    """The sample layout in the file, "RGB;16B" for instance, or "". To be asked before load() and getexif()."""
    tiles = getattr(image, "tile", None) or []
    arguments: Any = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def orientation_of(image: Image.Image) -> tuple[int, str | None]:
    """EXIF's orientation, 1 to 8 (1 for a TIFF, which Pillow itself turns), and a note."""
    try:
        if image.format == "AVIF":  # its own boxes tell, which Pillow puts here; XMP, which getexif() reads, must not
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
        else:
            exif = image.getexif()
        orientation = exif.get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF raises almost anything and costs only the orientation
        return 1, "EXIF data unreadable: shown as stored"
    return (orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1), None


def turn(planes: Samples, orientation: int) -> Samples:
    """(..., H, W) as stored => upright, by EXIF's orientation."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        planes = planes[..., ::-1]
    if orientation in (3, 4, 7, 8):
        planes = planes[..., ::-1, :]
    return planes


def open_picture(
    source: str | os.PathLike[str] | bytes | BinaryIO | Image.Image, limits: Limits = DEFAULT_LIMITS
) -> Picture:
    """Read a picture from a file's path, its bytes, an open binary file or a PIL image.

    Files: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, HEIC (with pillow-heif), told by their content; of several
    frames the first. The header's size is checked before a pixel is decoded. EXIF orientation is applied; colours
    told by ICC profiles, cICP, nclx, gAMA, cHRM or EXIF are converted to sRGB, PQ and HLG tone-mapped; grey becomes
    three equal channels. 16 bits a channel keep their precision. Under alpha 0 stands the nearest visible colour.
    What is lost is said in the picture's notes: docs/reading.md.
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


def open_hashed(path: Path, limits: Limits = DEFAULT_LIMITS, crop: Crop | None = None) -> tuple[Picture, str]:
    """A picture file or a part of it, read and decoded once, and the SHA-256 of its bytes. Raises PictureError."""
    data = read_file(path, limits)
    return from_decoded(decode_bytes(data, quoted(path), limits, crop)), hashlib.sha256(data).hexdigest()


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
    return Picture(color=color, alpha=alpha, notes=decoded.notes, grey=decoded.grey)


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

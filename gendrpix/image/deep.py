"""Pictures that Pillow cannot hold: 16 bits a channel in colour, and what TIFF's tags tell. Samples => sRGB."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gendrpix.errors import PictureError
from gendrpix.image.color_space import ColorSpace, to_srgb
from gendrpix.image.color_tags import Told
from gendrpix.image.srgb import PROFILE_COLORS, UNTOLD_CMYK, UNUSABLE_PROFILE, Samples, profile_keeps_colors

OVERSHOOT = 0.1
"""Share of the scale by which float samples may leave it: they are clipped, and a note says so."""
FLOAT_TOPS = (1, 255, 65535)


@dataclass(frozen=True, kw_only=True)
class Deep:
    """Samples with what they mean, before any conversion of colour."""

    values: NDArray[np.float32]
    """(H, W, 1, 3 or 4) in [0, 1], not premultiplied, black at 0 (CMYK: no ink at 0)."""
    kind: Literal["grey", "rgb", "cmyk"]
    alpha: NDArray[np.float32] | None = None
    """(H, W) in [0, 1]."""
    icc: bytes | None = None
    space: ColorSpace | None = None
    """What is told otherwise than by a profile; the profile goes first."""
    notes: tuple[str, ...] = ()
    orientation: int = 1
    """EXIF's, 1 to 8."""


def scale_integers(stored: NDArray[Any], bits: int, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """Unsigned samples of that many bits => [0, 1], and notes."""
    if not 1 <= bits <= 32:
        raise PictureError(f"{name} has {bits} bits a sample and 32 are read at most; save it with 16.")
    high, notes = int(stored.max(initial=0)), []
    top = 2**bits - 1
    if bits > 16 and 0 < high <= 65535:
        top, notes = 65535, [f"{bits}-bit samples taken as 0 to 65535: the largest is {high}"]
    if bits <= 16:  # float32 holds each of them
        return np.divide(stored, top, dtype=np.float32), notes
    return np.clip(stored / np.float64(top), 0, 1).astype(np.float32), notes


def scale_floats(values: NDArray[Any], name: str = "The picture") -> tuple[NDArray[np.float32], list[str]]:
    """Float samples => [0, 1] by the scale that they keep to (1, 255 or 65535), and notes.

    What leaves the scale a little is clipped and counted. PictureError where no scale is certain.
    """
    if not np.isfinite(values).all():
        raise PictureError(f"{name} has float samples that are NaN or infinite; replace them and save it anew.")
    low, high = float(values.min()), float(values.max())
    top = next((top for top in FLOAT_TOPS if high <= top * (1 + OVERSHOOT)), None)
    if top is None or low < -OVERSHOOT * top or (top > 1 and high < top / 16):
        raise PictureError(
            f"{name} has float samples from {low:.9g} to {high:.9g}, which is no scale of 0 to 1, 255 or 65535; "
            "scale them to 0 to 1."
        )
    notes = [f"float samples taken as 0 to {top}"]
    outside = int(((values < 0) | (values > top)).sum())
    if outside:
        notes.append(f"{outside} float samples outside 0 to {top} clipped ({low:.9g} to {high:.9g})")
    return np.clip(values / np.float64(top), 0, 1).astype(np.float32), notes


def deep_to_srgb(deep: Deep) -> tuple[Samples, list[str]]:
    """Samples => (1 or 3, H, W) float32 in [0, 1] in sRGB, upright not yet, and notes."""
    values, notes = deep.values, list(deep.notes)
    if deep.icc:
        try:
            return apply_deep_profile(deep), notes
        except Exception:  # LittleCMS refuses it, or it describes another kind of colour
            notes.append(UNUSABLE_PROFILE)
    if deep.kind == "cmyk":
        notes.append(UNTOLD_CMYK)
        values = (1 - values[..., :3]) * (1 - values[..., 3:])
    color = np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float32)
    if deep.space is not None and deep.kind != "cmyk":
        color, note = to_srgb(color, deep.space)
        notes += [note] if note else []
    return color, notes


def apply_deep_profile(deep: Deep) -> Samples:
    """As `srgb.apply_profile`, in 16 bits a channel. Anything may be raised by an unusable profile."""
    import imagecodecs

    assert deep.icc is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(deep.icc)).profile
    kind = {"RGB": "rgb", "L": "grey", "CMYK": "cmyk"}[PROFILE_COLORS[profile.xcolor_space.strip()]]
    values = deep.values
    if kind == "rgb" and deep.kind == "grey":
        values = np.repeat(values, 3, axis=-1)
    elif kind != deep.kind:
        raise ValueError(f"a {kind} profile in a {deep.kind} picture")
    mode = {"rgb": "RGB", "grey": "L"}.get(kind)
    if mode is not None and profile_keeps_colors(deep.icc, mode):
        return np.ascontiguousarray(np.moveaxis(deep.values, -1, 0))
    integers = np.rint(values * 65535).astype(np.uint16)
    converted = imagecodecs.cms_transform(
        integers[..., 0] if kind == "grey" else integers,
        deep.icc,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        colorspace={"rgb": "RGB", "grey": "minisblack", "cmyk": "CMYK"}[kind],
        outcolorspace="RGB",
        outdtype="u2",
        intent=int(ImageCms.Intent.RELATIVE_COLORIMETRIC),
        flags=int(ImageCms.Flags.BLACKPOINTCOMPENSATION),
    )
    return np.ascontiguousarray(np.moveaxis(converted, -1, 0), dtype=np.float32) / np.float32(65535)


# Formats that hold more than Pillow does ------------------------------------------------------------------------------


def deep_of(image: Image.Image, data: bytes, told: Told, stored_mode: str) -> Deep | None:
    """The samples of a file with more than 8 bits a channel in colour; None where Pillow reads all of it.

    image: the file opened, not loaded, its size checked. Anything may be raised by a damaged file.
    """
    if image.format == "PNG" and ";16" in stored_mode and not image.mode.startswith("I"):
        return deep_png(image, data, told)
    boxes = told.boxes
    if image.format == "AVIF" and boxes is not None and boxes.bits > 8:
        return deep_avif(image, data, told, boxes.bits)
    if image.format == "HEIF" and int(image.info.get("bit_depth") or 8) > 8:
        return deep_heic(image, data, told)
    if image.format == "HEIF" and image.mode == "L" and boxes is not None and boxes.is_limited:
        image.load()
        return limited_grey(np.asarray(image, np.float32) / np.float32(255), image, told, 8)
    return None


def deep_png(image: Image.Image, data: bytes, told: Told) -> Deep:
    """16 bits a channel in colour, or grey with alpha."""
    import imagecodecs

    stored = imagecodecs.png_decode(data)
    values = with_size(stored, image)
    key = told.color_key
    alpha = None
    if key is not None and len(key) == values.shape[2] == 3:
        alpha = np.any(stored != np.array(key, np.uint16), axis=-1).astype(np.float32)
    icc = None if told.overrides_icc else image.info.get("icc_profile")
    return split(values.astype(np.float32) / np.float32(65535), told, icc, alpha)


def deep_avif(image: Image.Image, data: bytes, told: Told, bits: int) -> Deep:
    import imagecodecs

    values = with_size(imagecodecs.avif_decode(data, 0, numthreads=1), image)
    top = 255 if values.dtype == np.uint8 else 2**bits - 1
    return split(values.astype(np.float32) / np.float32(top), told, image.info.get("icc_profile"))


def deep_heic(image: Image.Image, data: bytes, told: Told) -> Deep:
    import pillow_heif

    heif = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    frame = heif[heif.primary_index]
    values = with_size(np.asarray(frame), image)
    info: dict[str, Any] = frame.info
    bits = int(info["bit_depth"])
    scaled = values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else 2**bits - 1)
    if values.shape[2] == 1 and told.boxes is not None and told.boxes.is_limited:
        return limited_grey(scaled[..., 0], image, told, bits)
    return split(scaled, told, image.info.get("icc_profile"))


def limited_grey(values: NDArray[np.float32], image: Image.Image, told: Told, bits: int) -> Deep:
    """Grey HEIC of limited range, (H, W) in [0, 1]: pillow-heif 1.8 expands the range of colour alone."""
    top, step = 2**bits - 1, 2 ** (bits - 8)
    expanded = np.clip((values * top - 16 * step) / (219 * step), 0, 1)
    return split(expanded[..., None], told, image.info.get("icc_profile"))


def with_size(values: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    """(H, W, C), if it has the size of the header. Raises ValueError."""
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[:2] != (image.height, image.width):
        raise ValueError(f"decoded as {values.shape}, the header says {image.height} x {image.width}")
    return values


def split(values: NDArray[np.float32], told: Told, icc: bytes | None, alpha: NDArray[np.float32] | None = None) -> Deep:
    """(H, W, 1 to 4): grey or RGB, with the last of 2 or 4 channels the alpha."""
    channels = values.shape[2]
    if channels in (2, 4):
        alpha = np.ascontiguousarray(values[..., -1])
        values = np.ascontiguousarray(values[..., :-1])
    return Deep(values=values, kind="grey" if channels < 3 else "rgb", alpha=alpha, icc=icc, space=told.space)


def grey_of(image: Image.Image, told: Told) -> Deep:
    """A loaded 16-bit, 32-bit or float grey image of Pillow, its colour key as alpha."""
    stored = np.asarray(image)
    alpha = None
    if image.mode == "F":
        values, notes = scale_floats(stored)
    else:
        low, high = int(stored.min()), int(stored.max())
        if low < 0 or high > 65535:
            raise PictureError(
                f"The picture's integer samples reach from {low} to {high} and 0 to 65535 is accepted; "
                "save it with 16 bits a sample."
            )
        values, notes = stored.astype(np.float32) / np.float32(65535), []
        key = image.info.get("transparency")
        alpha = (stored != key).astype(np.float32) if isinstance(key, int) else None
    icc = None if told.overrides_icc else image.info.get("icc_profile")
    return Deep(values=values[..., None], kind="grey", alpha=alpha, icc=icc, space=told.space, notes=tuple(notes))

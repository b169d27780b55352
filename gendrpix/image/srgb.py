"""Loaded 8-bit Pillow images => sRGB samples in [0, 1], colour and alpha apart; ICC profiles are converted."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Samples = NDArray[np.float32]


PROFILE_COLORS = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Colour space of an ICC profile => Pillow's mode."""
UNTOLD_CMYK = "CMYK without a colour profile: colours are approximate"
UNUSABLE_PROFILE = "colour profile unusable: taken as sRGB"


def samples(image: Image.Image) -> tuple[Samples, Samples | None, str | None]:
    """A loaded 8-bit image => color (1 or 3, H, W), alpha (H, W) or None, both in [0, 1], and a note."""
    base, alpha_band = split_alpha(image)
    was_grey = base.mode == "L"
    base, note = to_srgb(base, image.info.get("icc_profile"))
    pixels = np.asarray(base)  # (H, W) or (H, W, 3) uint8
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if was_grey and len(planes) == 3 and (planes == planes[:1]).all():
        planes = planes[:1]
    color = np.empty(planes.shape, np.float32)
    for channel, plane in zip(color, planes, strict=True):
        np.divide(plane, 255, out=channel, dtype=np.float32)
    alpha = None if alpha_band is None else np.asarray(alpha_band, dtype=np.float32) / np.float32(255)
    return color, alpha, note


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An 8-bit image => its colour (L, RGB, CMYK or LAB, not premultiplied) and its alpha (L) or None."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel(0), image.getchannel(1)
    if image.mode == "1" or (image.mode == "L" and image.has_transparency_data):
        alpha = image.convert("RGBA").getchannel(3) if image.has_transparency_data else None
        return image.convert("L"), alpha
    if image.has_transparency_data:
        four = image.convert("RGBA")
        return four.convert("RGB"), four.getchannel(3)
    return (image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")), None


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """An image of mode L, RGB, CMYK or LAB => L or RGB in sRGB, and a note on an unusable ICC profile."""
    note = None
    if profile:
        try:
            return apply_profile(image, profile), None
        except Exception:  # LittleCMS refuses it, or it describes another kind of colour
            note = UNUSABLE_PROFILE
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return converted(image, transform), note
    if image.mode == "CMYK":
        return image.convert("RGB"), note or UNTOLD_CMYK
    return image, note


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from the ICC profile to sRGB: relative colorimetric with black point compensation."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = PROFILE_COLORS[source.profile.xcolor_space.strip()]
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if mode != image.mode:
        raise ValueError(f"a {mode} profile in a picture of mode {image.mode}")
    transform = transform_of(source, mode)
    return image if keeps_colors(transform, mode) else converted(image, transform)


def transform_of(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """From a profile to sRGB, in 8 bits."""
    return ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def profile_keeps_colors(profile: bytes, mode: str) -> bool:
    """`keeps_colors` of a profile's bytes."""
    return keeps_colors(transform_of(ImageCms.ImageCmsProfile(io.BytesIO(profile)), mode), mode)


def keeps_colors(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform is the identity but for rounding: sRGB by any name, which needs no conversion."""
    if mode not in ("RGB", "L"):
        return False
    ramp = np.arange(0, 256, 15, dtype=np.uint8)  # 18 levels, 0 and 255 among them
    if mode == "L":
        probe = np.repeat(ramp[:, None], 3, axis=1)[None]
        before = Image.fromarray(probe[..., 0])
    else:
        probe = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(1, -1, 3)
        before = Image.fromarray(probe)
    after = np.asarray(converted(before, transform))
    return bool(np.abs(after.astype(np.int16) - probe).max() <= 1)


def converted(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    result = ImageCms.applyTransform(image, transform)
    if result is None:
        raise ValueError("LittleCMS gave no picture back")
    return result

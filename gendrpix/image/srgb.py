"""Loaded Pillow images of any mode => sRGB samples in [0, 1], colour and alpha apart; ICC profiles are converted."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gendrpix.errors import PictureError

Samples = NDArray[np.float32]


def samples(image: Image.Image) -> tuple[Samples, Samples | None, str | None]:
    """A loaded image => color (3, H, W), alpha (H, W) or None, both in [0, 1], and a note."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey, alpha, note = deep_grey(image)
        if "icc_profile" in image.info:
            ignored = "colour profile not applied to deep grey samples"
            note = f"{note}; {ignored}" if note else ignored
        return np.repeat(grey[None], 3, axis=0), alpha, note
    base, alpha_band = split_alpha(image)
    base, note = to_srgb(base, image.info.get("icc_profile"))
    pixels = np.asarray(base)  # (H, W) or (H, W, 3) uint8
    color = np.empty((3, image.height, image.width), np.float32)
    for channel in range(3):
        np.divide(pixels if pixels.ndim == 2 else pixels[..., channel], 255, out=color[channel], dtype=np.float32)
    alpha = None if alpha_band is None else np.asarray(alpha_band, dtype=np.float32) / np.float32(255)
    return color, alpha, note


def deep_grey(image: Image.Image) -> tuple[Samples, Samples | None, str | None]:
    """16-bit, 32-bit or float grey => grey (H, W) in [0, 1], alpha from a colour key, and a note."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise PictureError("The picture's float samples hold NaN or infinity; replace them and save it anew.")
        low, high = float(values.min()), float(values.max())
        full = next((top for top in (1, 255, 65535) if high <= top), None)
        if low < 0 or full is None:
            raise PictureError(
                f"The picture's float samples reach from {low:g} to {high:g} and 0 to 65535 is accepted; "
                "scale them to 0 to 1."
            )
        return (values / np.float32(full)).astype(np.float32), None, f"float samples taken as 0 to {full}"
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise PictureError(
            f"The picture's integer samples reach from {low} to {high} and 0 to 65535 is accepted; "
            "save it with 16 bits a sample."
        )
    grey = values.astype(np.float32) / np.float32(65535)
    key = image.info.get("transparency")
    alpha = (values != key).astype(np.float32) if isinstance(key, int) else None
    return grey, alpha, None


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
            note = "colour profile unusable: taken as sRGB"
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return converted(image, transform), note
    return (image.convert("RGB") if image.mode == "CMYK" else image), note


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from the ICC profile to sRGB: relative colorimetric with black point compensation."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}[source.profile.xcolor_space.strip()]
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if mode != image.mode:
        raise ValueError(f"a {mode} profile in a picture of mode {image.mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return image if keeps_colors(transform, mode) else converted(image, transform)


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

"""Picture files => sRGB samples in [0, 1]: the checks and the decoding behind `gendrpix.images.open_picture`.

Pillow does the parsing; this module decides what may reach it. It calls the one plug-in that the file's first
bytes ask for, not `Image.open`, whose pixel limit is one for the whole process and at first only a warning.
No global of Pillow is changed, so any number of threads may decode at once.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

Samples = NDArray[np.float32]

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


class PictureError(ValueError):
    """A picture was refused or could not be written. The message is one plain sentence fit for a user."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the gate lets through. The defaults suit a public page on an ordinary machine."""

    max_bytes: int = 300_000_000
    """Size of the file, in bytes."""
    max_pixels: int = 100_000_000
    """Width times height of the picture, read from its header before anything is decoded."""
    max_output_pixels: int = 200_000_000
    """Width times height of the enlarged result."""
    max_aspect: float = 4000.0
    """Longer side divided by the shorter one (20,000 x 10 is 2000)."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_output_pixels", "max_aspect"):
            value = getattr(self, name)
            if not value >= 1:
                raise ValueError(f"Limits.{name} is {value}; give a number of at least 1.")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upright sRGB picture: color (3, H, W), not premultiplied, alpha (H, W) or None; float32, [0, 1]."""

    color: Samples
    alpha: Samples | None
    notes: tuple[str, ...]


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise PictureError unless width x height (pixels) is within the limits."""
    if width < 1 or height < 1:
        raise PictureError(f"The picture is {width} x {height}: it has no pixels; choose another one.")
    if width * height > limits.max_pixels:
        raise PictureError(
            f"The picture has {width} x {height} = {width * height:,} pixels and the limit is "
            f"{limits.max_pixels:,}; crop it or make it smaller."
        )
    aspect = max(width, height) / min(width, height)
    if aspect > limits.max_aspect:
        raise PictureError(
            f"The picture is {width} x {height}, so one side is {aspect:,.0f} times the other and the "
            f"limit is {limits.max_aspect:,.0f} times; crop it."
        )


def decode_bytes(data: bytes, name: str, limits: Limits) -> Decoded:
    """The first frame of an encoded picture; name stands in the messages. Raises PictureError."""
    if not data:
        raise PictureError(f"{name} is empty (0 bytes); choose a picture file.")
    if len(data) > limits.max_bytes:
        raise too_many_bytes(name, limits)
    if data[:4] == b"RIFF":  # libwebp reserves memory for the whole canvas as it opens a file
        check_size(*webp_canvas(data), limits)
    with identify(data, name) as image:
        return decode_image(image, name, limits, frame_note=frame_note(image, len(data)))


def too_many_bytes(name: str, limits: Limits) -> PictureError:
    return PictureError(
        f"{name} is larger than the limit of {limits.max_bytes:,} bytes; "
        "save it in a compressed format or make it smaller."
    )


def identify(data: bytes, name: str) -> ImageFile.ImageFile:
    """Parse the header with the one plug-in that the first bytes call for; no pixel is decoded yet."""
    prefix = data[:16]
    for plugin in plugins():
        if not plugin.accepts(prefix):
            continue
        try:
            return plugin.factory(io.BytesIO(data), "")
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
    factory: Callable[[io.BytesIO, str], ImageFile.ImageFile]


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
    """(width, height) from a WebP file's first chunk; (1, 1) where it cannot be read."""
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


def decode_image(image: Image.Image, name: str, limits: Limits, frame_note: str | None = None) -> Decoded:
    """Decode an opened image: size check, samples, orientation, colour. The given object stays as it is."""
    check_size(image.width, image.height, limits)
    notes = [frame_note] if frame_note else []
    if ";16" in stored_mode(image) and not image.mode.startswith("I"):
        notes.append("16 bits a channel read as 8")
    try:
        image.load()
        check_size(image.width, image.height, limits)
        image, orientation_note = upright(image)
        color, alpha, color_note = samples(image)
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

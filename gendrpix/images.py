"""Pictures <=> tensors: the one gate for every picture that comes in or goes out.

Only this module and its two helpers (:mod:`gendrpix.decoding`, :mod:`gendrpix.png16`) know 8-bit and 16-bit
samples. Everything else sees (B, 3, H, W) floats in [-1, 1]. What comes in becomes upright sRGB; what goes
out is sRGB, with no EXIF data of the input in it.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from gendrpix.decoding import (
    Decoded,
    Limits,
    check_size,
    decode_bytes,
    decode_image,
    too_many_bytes,
    upright_size,
)
from gendrpix.errors import PictureError
from gendrpix.png16 import check_keyword, text_chunk, write_png16
from gendrpix.writing import quoted, written_beside

__all__ = [
    "Limits",
    "Picture",
    "PictureError",
    "check_output_size",
    "check_size",
    "find_pictures",
    "open_picture",
    "output_size",
    "pad_to_multiple",
    "read_size",
    "reflect_pad",
    "resize",
    "resize_alpha",
    "save_png",
    "to_array",
    "to_pil",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif")
DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upright sRGB picture, as everything behind the gate sees it."""

    color: Tensor
    """(1, 3, H, W) float32 in [-1, 1], not premultiplied."""
    alpha: Tensor | None = None
    """(1, 1, H, W) float32 in [0, 1], or None for an opaque picture."""
    notes: tuple[str, ...] = ()
    """What a user should know about how it was read: "first of 12 frames"."""

    @property
    def width(self) -> int:
        return self.color.shape[-1]

    @property
    def height(self) -> int:
        return self.color.shape[-2]


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


def output_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) after scaling: floor(n * scale + 0.5), at least 1."""
    if not scale > 0 or scale == float("inf"):
        raise ValueError(f"scale is {scale}; give a positive number.")
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def check_output_size(height: int, width: int, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise PictureError unless a result of height x width pixels is within the limits."""
    if height * width > limits.max_output_pixels:
        raise PictureError(
            f"The result would have {width} x {height} = {width * height:,} pixels and the limit is "
            f"{limits.max_output_pixels:,}; choose a smaller scale or crop the picture."
        )


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, H, W) float in [-1, 1] => (B, C, height, width): bicubic, antialiased, clamped to [-1, 1].

    Computed in float32 and given back in x's dtype. At its own size x is only clamped.
    """
    if x.shape[-2:] == (height, width):
        return x.clamp(-1, 1)
    if width == 1 < height:  # torch repeats the first row of a result one pixel wide; lying down it comes out right
        return resize(x.mT, width, height).mT
    y = F.interpolate(x.float(), size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return y.clamp(-1, 1).to(x.dtype)


def resize_alpha(alpha: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, H, W) in [0, 1] => (B, 1, height, width) in [0, 1], by the same resizer as the colour."""
    return (resize(alpha * 2 - 1, height, width) + 1) / 2


def reflect_pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """(B, C, H, W) => (B, C, top + H + bottom, left + W + right), mirrored about the edge pixels.

    The reflection repeats where the picture is smaller than the pad, as numpy.pad(mode="reflect") does; an
    axis of one pixel repeats that pixel. ValueError for a negative pad or an empty picture.
    """
    if min(left, right, top, bottom) < 0:
        raise ValueError(f"pads (left {left}, right {right}, top {top}, bottom {bottom}) must not be negative.")
    if 0 in x.shape[-2:]:
        raise ValueError(f"cannot reflect a picture of shape {tuple(x.shape)}; give at least one pixel.")
    if top or bottom:
        x = x.index_select(-2, reflected_indices(x.shape[-2], top, bottom, x.device))
    if left or right:
        x = x.index_select(-1, reflected_indices(x.shape[-1], left, right, x.device))
    return x


def reflected_indices(size: int, before: int, after: int, device: torch.device) -> Tensor:
    """(before + size + after,) int64: which of the size pixels stands at each padded position."""
    positions = torch.arange(-before, size + after, device=device)
    if size == 1:
        return torch.zeros_like(positions)
    period = 2 * (size - 1)
    folded = positions.remainder(period)
    return torch.where(folded < size, folded, period - folded)


def pad_to_multiple(x: Tensor, multiple: int = 8) -> Tensor:
    """(B, C, H, W) padded at bottom and right (reflect) until both sides are multiples of multiple."""
    height, width = x.shape[-2:]
    return reflect_pad(x, 0, -width % multiple, 0, -height % multiple)


def to_array(color: Tensor, alpha: Tensor | None = None, bits: int = 8) -> NDArray[Any]:
    """One picture as integers: (H, W, 3), or (H, W, 4) with alpha, uint8 or uint16, rounded to nearest.

    color: (1, 3, H, W) or (3, H, W) in [-1, 1]; alpha: (1, 1, H, W) or (1, H, W) in [0, 1]; both are clamped.
    PictureError where a sample is NaN or infinite; ValueError for other shapes or bits.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits is {bits}; give 8 or 16.")
    color = color.detach().squeeze(0) if color.ndim == 4 else color.detach()
    if color.ndim != 3 or color.shape[0] != 3:
        raise ValueError(f"color has shape {tuple(color.shape)}; expected one picture, (1, 3, H, W) or (3, H, W).")
    parts = [(color.float() + 1) / 2]
    if alpha is not None:
        alpha = alpha.detach().to(color.device).reshape(-1, *alpha.shape[-2:])
        if alpha.shape != (1, *color.shape[1:]):
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)}; expected {(1, *color.shape[1:])} as the colour has."
            )
        parts.append(alpha.float())
    samples = torch.cat(parts).permute(1, 2, 0)  # (H, W, 3 or 4)
    if not bool(torch.isfinite(samples).all()):
        raise PictureError("The result holds NaN or infinite values and was not kept; try another dtype (float32).")
    top = 255 if bits == 8 else 65535
    integers = samples.clamp(0, 1).mul(top).round().cpu().numpy()
    return integers.astype(np.uint8 if bits == 8 else np.uint16)


def to_pil(color: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """One picture (see to_array) as an 8-bit PIL image, RGB or RGBA. Save 16 bits with save_png(bits=16)."""
    return Image.fromarray(to_array(color, alpha))


def save_png(
    image: Image.Image | Tensor | Picture,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    bits: int = 8,
) -> Path:
    """Write an sRGB PNG of 8 or 16 bits a channel and give back its path.

    image: a PIL image (8 bits only), a (1, 3, H, W) tensor in [-1, 1], or a Picture with its alpha. metadata:
    keyword => text chunks. The file is written beside its final name and renamed when it is whole, so that no
    reader ever sees half a picture. An existing file is refused unless overwrite. PictureError where the file
    cannot be written.
    """
    path = Path(path)
    metadata = dict(metadata or {})
    for keyword in metadata:
        check_keyword(keyword)
    if isinstance(image, Image.Image):
        if bits != 8:
            raise ValueError("a PIL image holds 8 bits a channel; give the tensor to save 16.")
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    elif isinstance(image, Picture):
        pixels = to_array(image.color, image.alpha, bits)
    else:
        pixels = to_array(image, None, bits)
    with written_beside(path, overwrite=overwrite) as file:
        write_png(file, pixels, metadata)
    return path


def write_png(file: BinaryIO, pixels: NDArray[Any], metadata: Mapping[str, str]) -> None:
    """(H, W, 3 or 4) uint8 or uint16 => PNG with the sRGB chunk and one text chunk for each entry."""
    if pixels.dtype == np.uint16:
        write_png16(file, pixels, metadata)
        return
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", b"\x01")  # rendering intent: relative colorimetric
    for keyword, text in metadata.items():
        chunks.add(*text_chunk(keyword, text))
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=chunks)

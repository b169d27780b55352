"""Tensors => PNG files and PIL images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from gendrpix.errors import PictureError
from gendrpix.files import written_beside
from gendrpix.image.picture import Picture
from gendrpix.image.png import check_keyword, text_chunk, write_png16


def to_array(color: Tensor, alpha: Tensor | None = None, bits: int = 8, grey: bool = False) -> NDArray[Any]:
    """One picture as integers: (H, W, 3), or (H, W, 4) with alpha, uint8 or uint16, rounded to nearest.

    color: (1, 3, H, W) or (3, H, W) in [-1, 1]; alpha: (1, 1, H, W) or (1, H, W) in [0, 1]; both are clamped.
    grey: one channel stands for the three, which are equal: (H, W, 1), or (H, W, 2) with alpha.
    PictureError where a sample is NaN or infinite; ValueError for other shapes or bits.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits is {bits}; give 8 or 16.")
    color = color.detach().squeeze(0) if color.ndim == 4 else color.detach()
    if color.ndim != 3 or color.shape[0] != 3:
        raise ValueError(f"color has shape {tuple(color.shape)}; expected one picture, (1, 3, H, W) or (3, H, W).")
    parts = [(color[:1] if grey else color).float().add(1).div(2)]
    if alpha is not None:
        alpha = alpha.detach().to(color.device).reshape(-1, *alpha.shape[-2:])
        if alpha.shape != (1, *color.shape[1:]):
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)}; expected {(1, *color.shape[1:])} as the colour has."
            )
        parts.append(alpha.float())
    samples = torch.cat(parts).permute(1, 2, 0)  # (H, W, 1 to 4)
    if not bool(torch.isfinite(samples).all()):
        raise PictureError("The result holds NaN or infinite values and was not kept; try another dtype (float32).")
    top = 255 if bits == 8 else 65535
    integers = samples.clamp(0, 1).mul(top).round().cpu().numpy()
    return integers.astype(np.uint8 if bits == 8 else np.uint16)


def to_pil(color: Tensor, alpha: Tensor | None = None, grey: bool = False) -> Image.Image:
    """One picture (see to_array) as an 8-bit PIL image: RGB, RGBA, L or LA. Save 16 bits with save_png(bits=16)."""
    return pil_of(to_array(color, alpha, grey=grey))


def pil_of(pixels: NDArray[np.uint8]) -> Image.Image:
    """(H, W, 1 to 4) uint8 => L, LA, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def save_png(
    image: Image.Image | Tensor | Picture,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    bits: int = 8,
) -> Path:
    """Write an sRGB PNG of 8 or 16 bits a channel and give back its path.

    image: a PIL image (8 bits only), a (1, 3, H, W) tensor in [-1, 1], or a Picture with its alpha; a grey one is
    written as grey. metadata: keyword => text chunks. The file is written beside its final name and renamed when it
    is whole, so that no reader ever sees half a picture. An existing file is refused unless overwrite. PictureError
    where the file cannot be written.
    """
    path = Path(path)
    metadata = dict(metadata or {})
    for keyword in metadata:
        check_keyword(keyword)
    if isinstance(image, Image.Image):
        if bits != 8:
            raise ValueError("a PIL image holds 8 bits a channel; give the tensor to save 16.")
        base = "L" if image.mode in ("1", "L", "LA") else "RGB"
        pixels = np.asarray(image.convert(f"{base}A" if image.has_transparency_data else base))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    elif isinstance(image, Picture):
        pixels = to_array(image.color, image.alpha, bits, image.grey)
    else:
        pixels = to_array(image, None, bits)
    with written_beside(path, overwrite=overwrite) as file:
        write_png(file, pixels, metadata)
    return path


def write_png(file: BinaryIO, pixels: NDArray[Any], metadata: Mapping[str, str]) -> None:
    """(H, W, 1 to 4) uint8 or uint16 => PNG with the sRGB chunk and one text chunk for each entry."""
    if pixels.dtype == np.uint16:
        write_png16(file, pixels, metadata)
        return
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", b"\x01")  # rendering intent: relative colorimetric
    for keyword, text in metadata.items():
        chunks.add(*text_chunk(keyword, text))
    pil_of(pixels).save(file, format="PNG", pnginfo=chunks)

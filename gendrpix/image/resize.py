"""Sizes of results, resizing and padding of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gendrpix.errors import PictureError
from gendrpix.image.picture import DEFAULT_LIMITS, Limits


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


# Resizing band by band ---------------------------------------------------------------------------------------------


def resize_rows(x: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of `gendrpix.image.resize.resize(x, *size)`, read from the rows of x that they depend on.

    (B, C, H, W) float in [-1, 1] => (B, C, bottom - top, width), equal to the whole resize to float32's rounding.
    """
    height, width = size
    if not 0 <= top < bottom <= height:
        raise ValueError(f"Rows {top} to {bottom} were asked for; expected a part of 0 to {height}.")
    if x.shape[-2:] == size:
        return x[..., top:bottom, :].clamp(-1, 1)
    first, weights = bicubic_rows(x.shape[-2], height, top, bottom)
    context = x[..., first : first + weights.shape[1], :].float()
    lines = context.shape[-2]
    across = F.interpolate(context, size=(lines, width), mode="bicubic", antialias=True, align_corners=False)
    return (weights.to(x.device) @ across).clamp(-1, 1).to(x.dtype)


def bicubic_rows(in_px: int, out_px: int, top: int, bottom: int) -> tuple[int, Tensor]:
    """(first input row, (bottom - top, rows) float32 weights) of an antialiased bicubic resize of one axis.

    Keys' kernel with a = -1/2, widened by the reduction where the axis shrinks, cut off at the picture's edges and
    normalised: what `torch.nn.functional.interpolate(mode="bicubic", antialias=True)` applies.
    """
    ratio = torch.tensor(in_px) / out_px  # float32 throughout, as there: its rounding is reproduced as well
    widening = ratio.clamp(min=1)
    centres = (torch.arange(top, bottom) + 0.5) * ratio
    starts = (centres - 2 * widening + 0.5).long().clamp(min=0)
    stops = (centres + 2 * widening + 0.5).long().clamp(max=in_px)
    first, last = int(starts[0]), int(stops[-1])
    rows = torch.arange(first, last)
    distance = ((rows - centres[:, None] + 0.5) / widening).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where((rows >= starts[:, None]) & (rows < stops[:, None]), weights, 0.0)
    return first, weights / weights.sum(dim=1, keepdim=True)

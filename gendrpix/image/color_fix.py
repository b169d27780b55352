"""Colour correction: a result takes its broad colours from the picture that it was made of.

A restorer may shift colours a little. Both corrections here are those that peers offer; both read the input resized to
the result's size, and leave alone what they do not name.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.settings.checks import check_color_fix

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""
WAVELET_LEVELS = 5
"""Blurs in the wavelet's low band, 1, 2, 4, 8, 16 pixels wide: together a sigma of 13 pixels, a reach of 31."""
LEAST_DEVIATION = 1e-3
"""Contrast, in units of [-1, 1], below which a channel is flat and AdaIN only moves its mean."""


def correct_color(restored: Tensor, pixels: Tensor, kind: str) -> Tensor:
    """The result with its colours corrected: (B, 3, H, W) in [-1, 1] => the same, clamped, in its own dtype.

    pixels: what it was restored from, (B, 3, H, W) in [-1, 1] at the result's size.

    - "none":    the result itself
    - "wavelet": fine detail of the result, low frequencies of the input; local, with a reach of 31 pixels (the a trous
                 decomposition that StableSR, arXiv 2305.07015, corrects with)
    - "adain":   every channel's mean and standard deviation over the picture are made the input's
                 (adaptive instance normalisation, arXiv 1703.06868)
    """
    check_color_fix(kind)
    if kind == "none":
        return restored
    if restored.shape != pixels.shape:
        raise ValueError(
            f"The result has shape {tuple(restored.shape)} and its input {tuple(pixels.shape)}; resize the input first."
        )
    result, source = restored.float(), pixels.float()
    corrected = result + low_band(source - result) if kind == "wavelet" else match_moments(result, source)
    return corrected.clamp(-1, 1).to(restored.dtype)


def without_chroma(restored: Tensor) -> Tensor:
    """(..., 3, H, W) => the same shape with its luma in all three channels: the result of a grey picture."""
    weights = torch.tensor(LUMA, dtype=torch.float32, device=restored.device)[:, None, None]
    luma = (restored.float() * weights).sum(dim=-3, keepdim=True)
    return luma.expand(restored.shape).to(restored.dtype)


def low_band(x: Tensor) -> Tensor:
    """(B, C, H, W) => its low frequencies: five blurs by (1, 2, 1) / 4 on each axis, each twice as wide, edges kept."""
    for level in range(WAVELET_LEVELS):
        step = 2**level
        tall = F.pad(x, (0, 0, step, step), mode="replicate")
        x = (tall[..., : -2 * step, :] + tall[..., 2 * step :, :]) / 4 + x / 2
        wide = F.pad(x, (step, step, 0, 0), mode="replicate")
        x = (wide[..., : -2 * step] + wide[..., 2 * step :]) / 4 + x / 2
    return x


def match_moments(result: Tensor, source: Tensor) -> Tensor:
    """Give every channel of `result` (B, C, H, W) the mean and the standard deviation that it has in `source`."""
    means, wanted_means = (x.mean(dim=(-2, -1), keepdim=True) for x in (result, source))  # (B, C, 1, 1)
    spreads, wanted = (x.std(dim=(-2, -1), keepdim=True, correction=0) for x in (result, source))
    gain = (wanted / spreads).where((spreads > LEAST_DEVIATION) & (wanted > LEAST_DEVIATION), 1.0)
    return (result - means) * gain + wanted_means

"""Enlarging by fixed filters and mirroring borders, in operations that every runtime has."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 4
"""How many times larger the exported file makes a picture."""
TAPS = 5
"""Pixels of the small picture that one enlarged pixel may depend on, along an axis."""


def cubic_taps() -> Tensor:
    """The filter of each of the four phases: (4, 5) float32, for the pixels -2 to 2 around.

    Keys' kernel with a = -1/2, as `gendrpix.image.resize.resize` applies it; each row adds up to 1.
    """
    centres = (torch.arange(SCALE, dtype=torch.float64) + 0.5) / SCALE - 0.5
    distance = (torch.arange(TAPS, dtype=torch.float64) - TAPS // 2 - centres[:, None]).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0)).float()


class Enlarge(nn.Module):
    """(1, 3, h, w) in [0, 1] => (1, 3, 4 h, 4 w) in [-1, 1], equal to `gendrpix.image.resize.resize`.

    Pixels beyond the border count as nothing, and what the others weigh together is divided out, as there.
    """

    def __init__(self) -> None:
        super().__init__()
        taps = cubic_taps()
        both = torch.einsum("ay,bx->abyx", taps, taps).reshape(SCALE**2, 1, TAPS, TAPS)
        self.filters = nn.Conv2d(3, 3 * SCALE**2, TAPS, padding=TAPS // 2, groups=3, bias=False)
        self.filters.weight.data = both.repeat(3, 1, 1, 1)
        self.weights = nn.Conv2d(1, SCALE**2, TAPS, padding=TAPS // 2, bias=False)
        self.weights.weight.data = both

    def forward(self, picture: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] => (1, 3, 4 h, 4 w) in [-1, 1], clamped."""
        inside = picture[:, :1] * 0 + 1
        weights = self.weights(inside)
        filtered = self.filters(picture * 2 - 1) / torch.cat((weights, weights, weights), dim=1)
        return F.pixel_shuffle(filtered.clamp(-1, 1), SCALE)


def mirror(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """`x` with pixels added before and after along an axis, as `gendrpix.image.resize.reflect_pad` does.

    The sizes may be numbers or, while a graph is traced, tensors. The pads are at most 8 and may be more than the
    picture has pixels.
    """
    size = x.shape[axis]
    period = 2 * (size - 1) + (size == 1) * 1  # 1 for an axis of one pixel, which repeats
    # `before` whole periods more change nothing and leave no position negative.
    positions = torch.arange(before + size + after, device=x.device) - before + before * period
    folded = positions - torch.div(positions, period, rounding_mode="trunc") * period
    # Beyond the last pixel the order runs backwards; a position at the start is its own mirror image.
    return x.index_select(axis, torch.minimum(folded, period - folded))

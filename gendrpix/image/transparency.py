"""Colour under transparent pixels: what nobody sees must not bleed into what is seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

HIDDEN = 0.0
"""Sample put where no pixel of the picture is visible."""
GROUND = 0.0
"""Sample of [-1, 1] laid under transparency before pictures are scored: mid-grey."""


def fill_hidden(color: NDArray[np.float32], alpha: NDArray[np.float32]) -> None:
    """Put the nearest visible colour under alpha 0, in place: (C, H, W) and (H, W), both in [0, 1].

    Resizing and restoring read neighbours; so they find there what stands beside, not what an editor left behind.
    """
    hidden = alpha <= 0
    if not hidden.any():
        return
    if hidden.all():
        color[:] = HIDDEN
        return
    from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    rows, columns = rows[hidden], columns[hidden]
    for channel in color:
        channel[hidden] = channel[rows, columns]


def flattened(color: Tensor, alpha: Tensor | None) -> Tensor:
    """(B, 3, H, W) in [-1, 1] laid over mid-grey by its alpha, (B, 1, H, W) in [0, 1]; itself where that is None."""
    return color if alpha is None else GROUND + (color - GROUND) * alpha

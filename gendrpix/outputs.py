"""What a restorer gives back: results as PIL pictures with their alpha, arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor

from gendrpix.images import Picture, resize_alpha, to_pil

Restored = list[PIL.Image.Image] | NDArray[np.float32] | Tensor


@dataclass
class RestorationOutput(BaseOutput):
    """What a restorer returns.

    images: list of PIL pictures, (B, H, W, 3) float32 array in [0, 1], or (B, 3, H, W) tensor in [-1, 1].
    positive, negative: the two guided branches before the mix, (B, 3, H, W) tensors, if they were asked for.
    notes: what was done otherwise than asked for lack of memory, sentences; none twice.
    """

    images: Restored
    positive: Tensor | None = None
    negative: Tensor | None = None
    notes: tuple[str, ...] = ()


def as_output(results: list[Tensor], pictures: list[Picture], output_type: str) -> Restored:
    """Results (1, 3, H, W) in [-1, 1] as "pil", "np" or "pt"; the last two raise ValueError for unequal sizes."""
    if output_type == "pil":
        pairs = zip(results, pictures, strict=True)
        return [to_pil(result, enlarged_alpha(picture, result)) for result, picture in pairs]
    stacked = stack(results)
    if output_type == "pt":
        return stacked
    array: NDArray[np.float32] = (stacked.float() / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
    return array


def enlarged_alpha(picture: Picture, result: Tensor) -> Tensor | None:
    """(1, 1, H, W) in [0, 1] at the size of `result` (B, 3, H, W), or None for an opaque picture."""
    height, width = result.shape[-2:]
    return None if picture.alpha is None else resize_alpha(picture.alpha, height, width)


def stack(results: Sequence[Tensor]) -> Tensor:
    """Results of one size as one batch. Raises ValueError for unequal sizes."""
    sizes = {tuple(result.shape[-2:]) for result in results}
    if len(sizes) > 1:
        raise ValueError(f"The results have different sizes {sorted(sizes)}; ask for output_type='pil', or one by one.")
    return torch.cat(list(results))

"""What the autoencoder alone loses: the truth encoded and decoded. No restorer in latents can be better than that."""

from __future__ import annotations

import torch
from torch import Tensor

from gendrpix.image.read import open_picture
from gendrpix.image.write import to_pil
from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import Autoencoder
from gendrpix.specs import PATCH
from training.cases import Cases
from training.validation import psnr


@torch.inference_mode()
def reconstruct(autoencoder: Autoencoder, pixels: Tensor) -> Tensor:
    """D(E(x)): (1, 3, H, W) float in [-1, 1], sides multiples of 8 => the same on the CPU, clamped."""
    codec = LatentCodec(autoencoder)
    return codec.decode(codec.encode(pixels.to(autoencoder.device, autoencoder.dtype))).float().cpu().clamp(-1, 1)


def reconstruction_psnr(autoencoder: Autoencoder, cases: Cases) -> dict[str, float]:
    """Picture => PSNR in dB over R, G and B of D(E(truth)), rounded to 8 bits; whole pictures, no border crop.

    Truths are cropped at bottom and right to multiples of 8. Those smaller than that are left out.
    """
    found = {}
    for case in cases:
        assert case.truth is not None
        height, width = (side - side % PATCH for side in case.truth.color.shape[-2:])
        if min(height, width) < PATCH:
            continue
        truth = case.truth.color[..., :height, :width]
        rounded = open_picture(to_pil(reconstruct(autoencoder, truth))).color
        found[case.name] = float(psnr(rounded, truth))
    return found

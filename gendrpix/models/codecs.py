"""The two ways from a picture to the UNet's grid and back, behind one encode / decode.

A codec maps pixels, (B, 3, H, W) float in [-1, 1] with H and W multiples of 8, to hidden maps,
(B, C, H/8, W/8) float, and back.
"""

from __future__ import annotations

from typing import Protocol

from diffusers import AutoencoderDC
from torch import Tensor
from torch.nn import functional as F

from gendrpix.models.networks import Autoencoder
from gendrpix.models.tiling import restore_tiled
from gendrpix.specs import PATCH, Domain

VAE_OVERLAP_PX = 128
"""Pixels that neighbouring tiles of an autoencoder share: it sees further than 16 pixels, which tiles else discard."""


class Codec(Protocol):
    """Anything with this pair of conversions."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels => hidden."""

    def decode(self, hidden: Tensor) -> Tensor:
        """Hidden => pixels, not clamped."""


class PixelCodec:
    """Pixel-unshuffle and pixel-shuffle by 8: lossless, no weights, C = 192."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels => (B, 192, H/8, W/8); `U8` of the paper."""
        return F.pixel_unshuffle(pixels, PATCH)

    def decode(self, hidden: Tensor) -> Tensor:
        """(B, 192, H/8, W/8) => pixels; `S8` of the paper."""
        return F.pixel_shuffle(hidden, PATCH)


class LatentCodec:
    """A frozen or trained autoencoder: `z = (mode - shift) * scaling_factor`, and its inverse before decoding."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder
        self.scale = float(autoencoder.config.scaling_factor)
        self.shift = float(getattr(autoencoder.config, "shift_factor", None) or 0.0)

        self.tile_px: int | None = None
        """Side of the tiles that are encoded and decoded one by one, in pixels; None for the whole at once."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels => (B, 16, H/8, W/8) latents: the posterior's mode, shifted and scaled to about unit variance."""
        return restore_tiled(pixels, self._encode, self.tile_px, VAE_OVERLAP_PX, made_px=PATCH)

    def decode(self, hidden: Tensor) -> Tensor:
        """(B, 16, H/8, W/8) latents => pixels."""
        return restore_tiled(hidden, self._decode, self.tile_px, VAE_OVERLAP_PX, read_px=PATCH)

    def _encode(self, pixels: Tensor) -> Tensor:
        encoded = self.autoencoder.encode(pixels)
        mode: Tensor = encoded.latent if isinstance(self.autoencoder, AutoencoderDC) else encoded.latent_dist.mode()
        return (mode - self.shift) * self.scale

    def _decode(self, hidden: Tensor) -> Tensor:
        decoded: Tensor = self.autoencoder.decode(hidden / self.scale + self.shift).sample
        return decoded


def codec_for(domain: Domain, autoencoder: Autoencoder | None) -> Codec:
    """The codec of a domain. Raises ValueError where a latent one is asked for without an autoencoder."""
    if domain == "pixel":
        return PixelCodec()
    if autoencoder is None:
        raise ValueError("This restorer works on latents and needs an autoencoder; none was given. Pass `vae=`.")
    return LatentCodec(autoencoder)

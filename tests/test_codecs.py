"""Both codecs: shapes, order of channels, inverses, scale and shift."""

import pytest
import torch
from diffusers import AutoencoderKL
from models import tiny_autoencoder

from gendrpix.codecs import LatentCodec, PixelCodec, codec_for


def test_pixel_codec_is_lossless_and_orders_channels_as_the_paper() -> None:
    pixels = torch.randn(2, 3, 16, 24)
    hidden = PixelCodec().encode(pixels)
    assert hidden.shape == (2, 192, 2, 3)
    for channel in (0, 7, 8, 63, 64, 191):
        c, row, column = channel // 64, channel // 8 % 8, channel % 8
        assert torch.equal(hidden[:, channel], pixels[:, c, row::8, column::8])
    assert torch.equal(PixelCodec().decode(hidden), pixels)


@torch.no_grad()
def test_latent_codec_scales_and_takes_it_back() -> None:
    autoencoder = tiny_autoencoder()
    codec = LatentCodec(autoencoder)
    pixels = torch.randn(1, 3, 16, 24)
    latent = autoencoder.encode(pixels).latent
    assert torch.allclose(codec.encode(pixels), latent * 0.7)
    assert torch.allclose(codec.decode(latent * 0.7), autoencoder.decode(latent).sample, atol=1e-5)


@torch.no_grad()
def test_latent_codec_takes_the_mode_so_that_encoding_is_repeatable() -> None:
    blocks = {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    autoencoder = AutoencoderKL(**blocks, **kinds, scaling_factor=0.5, shift_factor=0.25).eval()
    codec = LatentCodec(autoencoder)
    pixels = torch.randn(1, 3, 16, 16)
    expected = (autoencoder.encode(pixels).latent_dist.mean - 0.25) * 0.5
    assert torch.equal(codec.encode(pixels), expected)
    assert torch.allclose(codec.decode(expected), autoencoder.decode(expected / 0.5 + 0.25).sample, atol=1e-6)


def test_a_latent_domain_needs_an_autoencoder() -> None:
    assert isinstance(codec_for("pixel", None), PixelCodec)
    assert isinstance(codec_for("latent", tiny_autoencoder()), LatentCodec)
    with pytest.raises(ValueError, match="needs an autoencoder"):
        codec_for("latent", None)

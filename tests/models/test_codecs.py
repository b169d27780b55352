"""Both codecs: shapes, order of channels, inverses, scale and shift."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from gendrpix.models.codecs import LatentCodec, PixelCodec, codec_for
from gendrpix.models.pattern import WIDER, without_pattern
from tests.helpers.models import tiny_autoencoder, tiny_pipeline


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


@pytest.mark.parametrize("size", [(512, 328), (384, 640)])
def test_tiles_of_an_autoencoder_are_close_to_the_whole(size: tuple[int, int]) -> None:
    """Latents to a thousandth of their deviation, pixels to a quarter of a level of 255."""
    codec = LatentCodec(tiny_autoencoder())
    pixels = torch.rand(1, 3, *size) * 2 - 1
    with torch.inference_mode():
        hidden = codec.encode(pixels)
        decoded = codec.decode(hidden)
        codec.tile_px = 256
        assert codec.encode(pixels).shape == hidden.shape and codec.decode(hidden).shape == decoded.shape
        torch.testing.assert_close(codec.encode(pixels), hidden, atol=2e-3, rtol=0)
        torch.testing.assert_close(codec.decode(hidden), decoded, atol=2e-3, rtol=0)


def test_vae_tiles_end_with_their_context() -> None:
    pipeline = tiny_pipeline("gendr")
    with pytest.raises(RuntimeError, match="stop"), pipeline.vae_tiles(256):
        assert pipeline._reader.tile_px == pipeline._writer.tile_px == 256
        raise RuntimeError("stop")
    assert pipeline._reader.tile_px is pipeline._writer.tile_px is None


def test_a_planted_pattern_goes_and_a_change_of_brightness_stays() -> None:
    torch_rng = torch.Generator().manual_seed(0)
    given = torch.rand(1, 3, 48, 64, generator=torch_rng) * 2 - 1
    pattern = torch.randn(1, 3, 8, 8, generator=torch_rng).tile(1, 1, 6, 8) * 0.1
    brightness = pattern.mean(dim=(-2, -1), keepdim=True)  # of each colour
    assert torch.allclose(without_pattern(given + pattern, given, 5), given + brightness, atol=1e-5)


def test_detail_that_repeats_by_chance_alone_stays() -> None:
    given, added = torch.randn(2, 1, 3, 128, 128, generator=torch.Generator().manual_seed(1)).unbind()
    taken = given + added - without_pattern(given + added, given, 9)
    assert taken.square().mean() < 0.25 / 81  # the expected square of a mean of 9 x 9 patches of variance 1


@pytest.mark.parametrize("tokens", [1, 3, 25])
def test_the_pattern_is_the_shrunk_local_mean_of_each_position_first_of_wide_then_of_small_surroundings(
    tokens: int,
) -> None:
    torch_rng = torch.Generator().manual_seed(1)
    restored, given = torch.randn(2, 1, 3, 64, 96, generator=torch_rng).unbind()
    restored = restored + 0.5 * torch.randn(1, 3, 8, 8, generator=torch_rng).tile(1, 1, 8, 12)
    added = (
        (restored - given)[0].double().numpy().reshape(3, 8, 8, 12, 8).transpose(0, 1, 3, 2, 4).reshape(3, 8, 12, 64)
    )
    added = added - added.mean(axis=-1, keepdims=True)
    total = np.zeros_like(added)
    for reach in (WIDER * tokens // 2, tokens // 2):
        pattern = np.zeros_like(added)
        for color, row, column in np.ndindex(3, 8, 12):
            rows, columns = (slice(max(0, at - reach), at + reach + 1) for at in (row, column))
            around = (added - total)[color, rows, columns].reshape(-1, 64)
            mean, variance = around.mean(axis=0), around.var(axis=0).sum()
            share = max(0.0, 1 - variance / len(around) / (mean**2).sum())
            pattern[color, row, column] = share * mean
        total += pattern
    taken = total.reshape(3, 8, 12, 8, 8).transpose(0, 1, 3, 2, 4).reshape(1, 3, 64, 96)
    expected = restored - torch.from_numpy(taken).float()
    assert torch.allclose(without_pattern(restored, given, tokens), expected, atol=1e-5)


def test_a_pattern_too_faint_for_a_small_neighbourhood_is_told_by_the_wide_one() -> None:
    torch_rng = torch.Generator().manual_seed(2)
    given, detail = torch.randn(2, 1, 3, 512, 512, generator=torch_rng).unbind()
    pattern = 0.1 * torch.randn(1, 3, 8, 8, generator=torch_rng)
    pattern = (pattern - pattern.mean(dim=(-2, -1), keepdim=True)).tile(1, 1, 64, 64)
    left = without_pattern(given + detail + pattern, given, 5) - given - detail
    repeated = left.unflatten(-1, (64, 8)).unflatten(-3, (64, 8)).mean(dim=(2, 4))
    assert repeated.square().mean() < 0.1 * pattern.square().mean()

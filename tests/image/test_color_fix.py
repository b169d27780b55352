"""Colour correction: what is taken from the input, what is left alone, and that it reaches results and recipes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from gendrpix.image.color_fix import correct_color, low_band
from gendrpix.image.read import open_picture
from gendrpix.settings.checks import SettingsError
from gendrpix.settings.recipe import Recipe
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import COLOR_FIXES
from tests.helpers.models import tiny_pipeline
from tests.helpers.pictures import photo


def smooth(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(1, 3, H, W) in [-0.5, 0.5], without fine detail."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 3, generator=generator) - 0.5
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)


def checkers(height: int, width: int) -> torch.Tensor:
    """(1, 1, H, W): one pixel up, one pixel down, 0.2 each."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return (((rows + columns) % 2) * 0.4 - 0.2)[None, None]


def test_none_is_the_result_itself() -> None:
    restored = torch.rand(1, 3, 9, 7)
    assert correct_color(restored, torch.zeros(1, 3, 9, 7), "none") is restored


def test_the_low_band_is_the_dilated_blurs_of_scipy() -> None:
    x = torch.rand(2, 3, 37, 50)
    expected = x.numpy()
    for level in range(5):
        kernel = np.zeros(2 * 2**level + 1)
        kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        for axis in (-2, -1):
            expected = convolve1d(expected, kernel, axis=axis, mode="nearest")
    assert np.allclose(low_band(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["wavelet", "adain"])
def test_a_shift_of_colour_is_undone(kind: str) -> None:
    source = smooth(80, 96)
    shift = torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    assert (correct_color(source + shift, source, kind) - source).abs().max() < 1e-5


def test_the_wavelet_keeps_detail_and_takes_a_gradual_drift_back() -> None:
    source, detail = smooth(128, 128), checkers(128, 128)
    drift = torch.linspace(-0.2, 0.2, 128)[None, None, None, :]
    fixed = correct_color(source + detail + drift, source, "wavelet")
    inner = (..., slice(32, -32), slice(32, -32))
    assert (fixed - source - detail)[inner].abs().max() < 0.01


def test_adain_gives_every_channel_the_inputs_mean_and_deviation() -> None:
    source, restored = smooth(40, 50), smooth(40, 50, seed=1) * 0.5 + 0.1
    fixed = correct_color(restored, source, "adain")
    for moment in (torch.mean, torch.std):
        assert torch.allclose(moment(fixed, dim=(-2, -1)), moment(source, dim=(-2, -1)), atol=1e-5)


def test_a_flat_picture_stays_finite() -> None:
    flat = torch.full((1, 3, 10, 10), 0.3)
    for kind in COLOR_FIXES:
        assert torch.isfinite(correct_color(flat, flat - 0.1, kind)).all()
    assert torch.allclose(correct_color(flat, flat - 0.1, "adain"), flat - 0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 3)])
@pytest.mark.parametrize("kind", ["wavelet", "adain"])
def test_small_pictures_range_and_dtype(kind: str, size: tuple[int, int]) -> None:
    restored = (torch.rand(2, 3, *size) * 2 - 1).bfloat16()
    fixed = correct_color(restored, (torch.rand(2, 3, *size) * 2 - 1).bfloat16(), kind)
    assert fixed.dtype == torch.bfloat16 and fixed.shape == restored.shape and fixed.abs().max() <= 1


def test_wrong_kinds_and_shapes_are_refused() -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="'blue'; expected one of none, wavelet, adain"):
        correct_color(x, x, "blue")
    with pytest.raises(ValueError, match="resize the input first"):
        correct_color(x, torch.zeros(1, 3, 4, 5), "wavelet")
    with pytest.raises(ValueError, match="'blue'"):
        RestoreSettings(color_fix="blue")
    with pytest.raises(ValueError, match="'blue'"):
        tiny_pipeline("gendr-pix")(photo(8, 8), color_fix="blue")


@pytest.mark.parametrize("tile", [None, 128])
def test_the_pipeline_corrects_the_whole_result(tile: int | None) -> None:
    pipeline, picture = tiny_pipeline("gendr-pix"), open_picture(photo(70, 40))
    pixels = pipeline.prepare(picture, 2)
    plain = pipeline(picture, scale=2, tile=tile, output_type="pt").images
    fixed = pipeline(picture, scale=2, tile=tile, color_fix="adain", output_type="pt").images
    assert torch.equal(fixed, correct_color(plain, pixels, "adain"))
    assert not torch.equal(fixed, plain)


def test_a_recipe_tells_the_correction_and_the_bits() -> None:
    text = '{"restorer": "gendr", "scale": 2, "color_fix": "wavelet", "bits": 16}'
    recipe = Recipe.from_json(text)
    assert (recipe.settings.color_fix, recipe.settings.bits) == ("wavelet", 16)
    assert Recipe.from_json('{"restorer": "gendr", "scale": 2}').settings.color_fix == "none"
    for wrong in ('"color_fix": "blue"', '"color_fix": 3', '"bits": 12', '"bits": true'):
        with pytest.raises(SettingsError, match="expected one of"):
            Recipe.from_json(f'{{"restorer": "gendr", "scale": 2, {wrong}}}')

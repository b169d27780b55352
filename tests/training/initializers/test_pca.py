"""The small autoencoder's start as the principal components of 8 x 8 patches."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.models.networks import build_autoencoder
from gendrpix.specs import find_model
from tests.helpers.models import tiny_autoencoder
from training.initializers.pca import principal_components, start_from_components


def pictures(count: int = 6, side: int = 48) -> Tensor:
    """Soft seeded pictures in [-1, 1]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)


def test_components_are_orthonormal_and_the_best_of_their_number() -> None:
    patches = F.pixel_unshuffle(pictures(), 8).movedim(1, -1).flatten(0, -2)
    rows, deviations = principal_components(pictures().split(2), 16)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), atol=1e-5, rtol=0)
    assert torch.all(deviations.diff() <= 1e-6)
    # The best error of any linear code of that size: what the singular values after the 16th leave (Eckart, Young)
    left = torch.linalg.svdvals(patches)[16:].square().sum()
    error = (patches - patches @ rows.T @ rows).square().sum()
    torch.testing.assert_close(error, left, rtol=1e-3, atol=1e-4)


def test_the_mini_autoencoder_starts_as_its_components() -> None:
    torch.manual_seed(0)
    model = build_autoencoder(find_model("mini")).eval()
    pixels = pictures()
    rows, deviations = principal_components([pixels], 16)
    gains = deviations.clamp_min(0.1).rsqrt()
    start_from_components(model, rows, gains)
    with torch.no_grad():
        latents = model.encode(pixels).latent
        restored = model.decode(latents).sample
    codes = torch.einsum("kc,bchw->bkhw", rows * gains[:, None], F.pixel_unshuffle(pixels, 8))
    torch.testing.assert_close(latents, codes, atol=1e-4, rtol=1e-4)
    plain = F.pixel_shuffle(torch.einsum("kc,bkhw->bchw", rows / gains[:, None], codes), 8)
    assert (restored - plain).abs().mean() < 0.01
    assert (restored - plain).abs().max() < 0.06


def test_a_geometry_that_cannot_carry_the_components_is_refused() -> None:
    with pytest.raises(ValueError, match='Use start "random"'):
        start_from_components(tiny_autoencoder(), torch.eye(16, 192), torch.ones(16))

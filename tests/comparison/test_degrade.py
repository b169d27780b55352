"""The playground's degradation: seeded, in range, each part by itself."""

import pytest
import torch

from gendrpix.comparison.degrade import Degradation, blur, crop_clean, degrade
from gendrpix.image.resize import resize

NOTHING = {"blur_px": 0.0, "factor": 1, "noise": 0.0, "jpeg": 100}


def clean(height: int = 24, width: int = 32) -> torch.Tensor:
    return resize(torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1, height, width)


def test_nothing_changes_nothing() -> None:
    assert torch.equal(degrade(clean(), Degradation(**NOTHING)), clean())


def test_same_seed_same_pixels() -> None:
    one, again = (degrade(clean(), Degradation(seed=4)) for _ in range(2))
    assert torch.equal(one, again) and one.shape == (1, 3, 6, 8) and one.abs().max() <= 1
    assert not torch.equal(one, degrade(clean(), Degradation(seed=5)))


def test_noise_has_its_strength() -> None:
    grey = torch.zeros(1, 3, 96, 96)
    noisy = degrade(grey, Degradation(**{**NOTHING, "noise": 0.05}))
    assert float(noisy.std()) / 2 == pytest.approx(0.05, rel=0.03)


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    spread = blur(point, 2.0)[0, 0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    rows = (torch.arange(31) - 15).float()
    assert float((spread.sum(dim=1) * rows**2).sum()) ** 0.5 == pytest.approx(2.0, rel=0.03)
    assert torch.equal(blur(point, 0.1), point)


def test_worse_jpeg_is_further_away() -> None:
    picture = clean(64, 64)
    errors = [
        float((degrade(picture, Degradation(**{**NOTHING, "jpeg": q})) - picture).abs().mean()) for q in (95, 50, 5)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_crop_is_the_middle_in_multiples() -> None:
    picture = clean(70, 45)
    assert torch.equal(crop_clean(picture, 4, 512), picture[..., 1:69, 0:44])
    assert crop_clean(picture, 3, 32).shape == (1, 3, 30, 30)
    with pytest.raises(ValueError, match="too small"):
        crop_clean(clean(24, 4), 8, 512)


@pytest.mark.parametrize("wrong", [{"factor": 0}, {"noise": 0.4}, {"jpeg": 4}, {"blur_px": -1.0}, {"seed": -1}])
def test_refusals(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Degradation(**wrong)
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade(clean(25, 32), Degradation())

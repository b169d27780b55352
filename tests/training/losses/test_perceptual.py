"""The perceptual term: a distance, with gradients for the student alone, and a clear word where LPIPS is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.models import tiny_autoencoder
from training.losses.perceptual import build_perceptual_loss

CPU = torch.device("cpu")


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_zero_for_equal_pictures_and_grows_with_the_difference() -> None:
    loss = build_perceptual_loss("encoder", tiny_autoencoder(), CPU)
    assert loss is not None
    x, noise = pictures(0), pictures(1)
    assert loss(x, x) == 0
    small, large = loss(x + 0.05 * noise, x), loss(x + 0.5 * noise, x)
    assert 0 < small < large


def test_it_is_the_distance_of_unit_features_summed_over_depths() -> None:
    autoencoder = tiny_autoencoder()
    loss = build_perceptual_loss("encoder", autoencoder, CPU)
    assert loss is not None
    maps: list[list[np.ndarray]] = [[], []]
    for at, x in enumerate((pictures(0), pictures(1))):
        with torch.no_grad():
            hidden = autoencoder.encoder.conv_in(x)
            for block in autoencoder.encoder.down_blocks:
                hidden = block(hidden)
                array = hidden.double().numpy()
                maps[at].append(array / np.sqrt((array**2).sum(axis=1, keepdims=True) + 1e-6))
    expected = sum(((a - b) ** 2).sum(axis=1).mean() for a, b in zip(*maps, strict=True))
    assert loss(pictures(0), pictures(1)).item() == pytest.approx(expected, rel=1e-4)


def test_gradients_go_to_the_student_alone() -> None:
    autoencoder = tiny_autoencoder()
    autoencoder.requires_grad_(False)
    loss = build_perceptual_loss("encoder", autoencoder, CPU)
    assert loss is not None
    student, target = pictures(0).requires_grad_(), pictures(1).requires_grad_()
    loss(student, target).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0
    assert target.grad is None
    assert all(p.grad is None for p in autoencoder.parameters())


def test_none_is_no_loss() -> None:
    assert build_perceptual_loss("none", tiny_autoencoder(), CPU) is None


@pytest.mark.parametrize("error", [OSError("offline"), RuntimeError("bad download")])
def test_lpips_without_weights_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import pyiqa

    def unavailable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pyiqa, "create_metric", unavailable)
    with pytest.raises(ValueError, match=r"LPIPS with the vgg trunk cannot be had .*perceptual=.encoder."):
        build_perceptual_loss("lpips-vgg", tiny_autoencoder(), CPU)

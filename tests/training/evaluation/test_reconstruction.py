"""The autoencoder alone: against its own layers and a PSNR computed by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gendrpix.image.write import to_pil
from tests.helpers.models import tiny_autoencoder
from tests.training.evaluation.test_evaluate import array_of, write_photos
from training.evaluation.datasets import Degrading, degraded_dataset
from training.evaluation.evaluate import reconstruct, reconstruction_psnr


def test_the_figure_is_rgb_psnr_of_whole_pictures_cropped_to_eights(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"a": (45, 28), "b": (32, 40)})
    autoencoder = tiny_autoencoder()
    found = reconstruction_psnr(autoencoder, degraded_dataset(photos, Degrading(degradation="bicubic")))
    for name, (width, height) in {"a": (40, 24), "b": (32, 40)}.items():
        truth = array_of(photos / f"{name}.png")[:height, :width]
        pixels = torch.from_numpy(truth / 127.5 - 1).permute(2, 0, 1)[None].float()
        with torch.inference_mode():  # no scaling, no codec: the network's own two halves
            output = autoencoder.decode(autoencoder.encode(pixels).latent).sample
        rounded = np.rint((output[0].permute(1, 2, 0).numpy().clip(-1, 1) + 1) * 127.5)
        expected = 10 * math.log10(255**2 / np.mean((rounded - truth) ** 2))
        assert found[name] == pytest.approx(expected, abs=0.01)
    assert list(found) == ["a", "b"]


def test_a_picture_smaller_than_a_patch_is_left_out(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"a": (16, 16), "small": (4, 40)})
    assert list(
        reconstruction_psnr(tiny_autoencoder(), degraded_dataset(photos, Degrading(degradation="bicubic")))
    ) == ["a"]


def test_an_autoencoder_that_loses_nothing_gives_the_picture_back() -> None:
    class Identity(torch.nn.Module):
        config = type("Config", (), {"scaling_factor": 0.3, "shift_factor": 0.1})
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, pixels: torch.Tensor) -> object:
            mode = type("Posterior", (), {"mode": lambda _: pixels})()
            return type("Encoded", (), {"latent_dist": mode})()

        def decode(self, hidden: torch.Tensor) -> object:
            return type("Decoded", (), {"sample": hidden})()

    pixels = torch.rand(1, 3, 16, 24) * 2 - 1
    assert np.array_equal(np.asarray(to_pil(reconstruct(Identity(), pixels))), np.asarray(to_pil(pixels)))

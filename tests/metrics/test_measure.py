"""Measures against independent formulas, planted patterns and known allocations."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from gendrpix.metrics.fidelity import psnr_y, ssim_y
from gendrpix.metrics.grid import grid_score, seam_score
from gendrpix.metrics.profiling import measure_peak, timed


def natural(height: int = 128, width: int = 136, seed: int = 0) -> Tensor:
    """(1, 3, H, W) in [-1, 1] with a 1/f spectrum, as photos have."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.fft2(torch.randn(1, 3, height, width, generator=generator))
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
    picture = torch.fft.ifft2(spectrum / (rows**2 + columns**2 + 1e-4).sqrt()).real
    return (picture / picture.std() * 0.3).clamp(-1, 1)


def y_of(x: Tensor) -> np.ndarray:
    """BT.601 luma of (1, 3, H, W) in [-1, 1], 16 to 235, by the standard's own numbers."""
    red, green, blue = ((x[0].double().numpy() + 1) / 2).clip(0, 1)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def test_psnr_follows_its_definition() -> None:
    truth = natural()
    image = (truth + 0.05 * torch.randn_like(truth)).clamp(-1, 1)
    error = np.mean((y_of(image) - y_of(truth)) ** 2)
    assert psnr_y(image, truth) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_ssim_follows_its_definition() -> None:
    truth = natural(40, 44)
    image = (truth + 0.1 * torch.randn_like(truth)).clamp(-1, 1)
    a, b = np.rint(y_of(image)), np.rint(y_of(truth))
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def smooth(x: np.ndarray) -> np.ndarray:
        return np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    shared = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = np.maximum(0, (2 * shared + c2) / (var_a + var_b + c2))
    expected = np.mean((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure)
    assert ssim_y(image, truth) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("height", [11, 138, 139, 300])
def test_ssim_in_strips_is_pyiqas_of_the_whole_picture(height: int) -> None:
    from pyiqa.archs.ssim_arch import SSIM

    truth = torch.cat([natural(height, 40, seed=1), natural(height, 40, seed=2)])
    image = (truth + 0.1 * torch.randn_like(truth)).clamp(-1, 1)
    whole = SSIM(test_y_channel=True, color_space="ycbcr")((image + 1) / 2, (truth + 1) / 2)
    assert ssim_y(image, truth) == pytest.approx(float(whole.mean()), abs=1e-6)  # its window is rounded to float32


def test_identical_pictures_get_the_best_scores() -> None:
    picture = natural()
    assert psnr_y(picture, picture) == pytest.approx(80)
    assert ssim_y(picture, picture) == pytest.approx(1)


@pytest.mark.parametrize("function", [psnr_y, ssim_y])
def test_a_truth_of_another_size_is_refused(function) -> None:
    with pytest.raises(ValueError, match="give a truth of the result's size"):
        function(natural(64, 64), natural(64, 72))


def grid_by_hand(x: Tensor) -> float:
    """The grid score's definition with loops, in NumPy."""
    red, green, blue = x[0].double().numpy()
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = (side - side % 8 for side in luminance.shape)
    periodic = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side) for side in (height, width)]
    amplitude = np.abs(np.fft.fft2(luminance[:height, :width] * np.outer(*periodic)))
    decibels = []
    for k in range(8):
        for m in range(8):
            if k == m == 0:
                continue
            inner, ring = [], []
            for i in range(-6, 7):
                for j in range(-6, 7):
                    value = amplitude[(k * height // 8 + i) % height, (m * width // 8 + j) % width]
                    if max(abs(i), abs(j)) <= 1:
                        inner.append(value)
                    elif max(abs(i), abs(j)) > 2:
                        ring.append(value)
            decibels.append(20 * np.log10(np.mean(inner) / np.median(ring)))
    return float(np.mean(decibels))


@pytest.mark.parametrize("size", [(64, 64), (128, 136), (99, 70)])
def test_grid_score_follows_its_definition(size: tuple[int, int]) -> None:
    picture = natural(*size)
    assert grid_score(picture) == pytest.approx(grid_by_hand(picture), abs=0.01)


def test_a_planted_pattern_scores_far_above_a_clean_picture() -> None:
    clean = natural()
    tile = torch.randn(1, 1, 8, 8)
    planted = clean + 0.1 * tile.repeat(1, 1, 16, 17)
    assert abs(grid_score(clean)) < 1.5
    assert grid_score(planted) > grid_score(clean) + 8
    stronger = clean + 0.2 * tile.repeat(1, 1, 16, 17)
    assert grid_score(stronger) > grid_score(planted)


def test_a_pattern_of_another_period_does_not_count() -> None:
    clean = natural(140, 140)
    of_seven = clean + 0.03 * torch.randn(1, 3, 7, 7).repeat(1, 1, 20, 20)
    assert grid_score(of_seven) < grid_score(clean) + 1


def test_grid_score_ignores_brightness_contrast_and_the_rest_beyond_multiples_of_8() -> None:
    picture = natural(128, 128) * 0.5
    assert grid_score(picture + 0.3) == pytest.approx(grid_score(picture), abs=0.01)
    assert grid_score(picture * 0.5) == pytest.approx(grid_score(picture), abs=0.01)
    wider = torch.cat([picture, torch.ones(1, 3, 128, 5)], dim=-1)
    assert grid_score(wider) == pytest.approx(grid_score(picture), abs=1e-6)


def test_a_flat_picture_has_no_grid() -> None:
    assert grid_score(torch.full((1, 3, 64, 64), 0.25)) == pytest.approx(0, abs=1e-3)


def test_grid_score_is_the_mean_over_a_batch() -> None:
    one, two = natural(seed=1), natural(seed=2)
    assert grid_score(torch.cat([one, two])) == pytest.approx((grid_score(one) + grid_score(two)) / 2)


def test_a_picture_too_small_for_a_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 pixels a side; got 200 x 63"):
        grid_score(torch.zeros(1, 3, 63, 200))
    with pytest.raises(ValueError, match="SSIM needs at least 11"):
        ssim_y(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_timed_does_not_count_the_warm_up_and_takes_the_median() -> None:
    pauses = iter([0.2, 0.01, 0.1, 0.01])
    timing = timed(lambda: time.sleep(next(pauses)) or "done", "cpu", warmup=1, repeats=3)
    assert timing.result == "done"
    assert len(timing.all_seconds) == 3
    assert 0.01 <= timing.seconds < 0.08
    assert max(timing.all_seconds) < 0.2


@pytest.mark.parametrize("runs", [{"warmup": -1}, {"repeats": 0}])
def test_timed_refuses_no_runs(runs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        timed(lambda: None, "cpu", **runs)


def hold(mega_bytes: int) -> None:
    """Fill that much memory, long enough to be noticed, and give it back."""
    block = torch.ones(mega_bytes * 250_000)
    time.sleep(0.03)
    assert block.sum() > 0


@pytest.mark.parametrize("sampled", [False, True])
def test_the_peak_is_what_was_held_above_the_start(sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if sampled:
        monkeypatch.setattr("gendrpix.metrics.profiling._reset_high_water_mark", lambda: False)
    hold(40)  # whatever is allocated once
    with measure_peak("cpu") as small:
        hold(40)
    with measure_peak("cpu") as large:
        hold(160)
    assert 30e6 < small.bytes < 80e6
    assert 150e6 < large.bytes < 200e6
    assert large.reserved is None
    assert "read every" in large.method if sampled else "resident set above the start" in large.method


def test_an_earlier_higher_peak_does_not_count() -> None:
    hold(200)
    with measure_peak("cpu") as peak:
        hold(20)
    assert peak.bytes < 80e6


def test_the_watching_thread_ends_with_its_body_when_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.metrics.profiling._reset_high_water_mark", lambda: False)
    with pytest.raises(KeyError), measure_peak("cpu"):
        raise KeyError("x")
    assert not [thread for thread in threading.enumerate() if thread.name == "gendrpix-memory"]


@pytest.mark.gpu
def test_on_cuda_only_what_is_measured_counts() -> None:
    other = torch.ones(50_000_000, device="cuda")  # 200 MB of another model
    with measure_peak("cuda", resident_bytes=1000) as peak:
        block = torch.ones(25_000_000, device="cuda")
        del block
    assert 100e6 <= peak.bytes < 110e6
    assert peak.reserved is not None and peak.reserved >= 300e6
    assert other.sum() > 0


def test_seam_score_of_a_step_a_grid_and_nothing() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 128), indexing="ij")
    smooth = (rows + columns)[None, None].repeat(1, 3, 1, 1)
    assert abs(seam_score(smooth, [48], [64])) < 0.01
    stepped = smooth.clone()
    stepped[..., 64:] += 0.1
    assert seam_score(stepped, [], [64]) > 15
    assert abs(seam_score(stepped, [48], [])) < 0.01
    grid = smooth + 0.1 * ((torch.arange(128) // 8) % 2)  # a step every 8 pixels is the grid's, not a seam
    assert abs(seam_score(grid, [], [64])) < 2
    with pytest.raises(ValueError, match="No line has a neighbour 8 positions away"):
        seam_score(smooth[..., :9, :9], [4], [])

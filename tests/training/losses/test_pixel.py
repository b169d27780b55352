"""Each loss against an independent formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.losses.adversarial import discriminator_loss, generator_loss
from training.losses.pixel import harmonics_loss, harmonics_mask, l1_loss, mfs_loss, shift_loss
from training.losses.randpad import draw_offsets, draw_padding, draw_zoom, randpad, through_padding, unpad, zoomed


def random_pictures(batch: int = 2, height: int = 32, width: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_l1_is_a_mean() -> None:
    assert l1_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])).item() == pytest.approx(2.0)


def test_logistic_losses_match_hand_computed_values() -> None:
    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    assert generator_loss([fake]).item() == pytest.approx((softplus(-0.5) + softplus(3.0)) / 2, rel=1e-6)
    expected = (softplus(-2.0) + softplus(1.0)) / 2 + (softplus(0.5) + softplus(-3.0)) / 2
    assert discriminator_loss([real], [fake]).item() == pytest.approx(expected, rel=1e-6)


def numpy_mfs(student: np.ndarray, teacher: np.ndarray, radius: int) -> float:
    """The definition, written out with loops: FFT per channel, harmonics of an 8-pixel period, mean over the mask."""
    height, width = student.shape[-2:]
    bins = set()
    for k in range(8):
        for m in range(8):
            if (k, m) != (0, 0):
                for i in range(-radius, radius + 1):
                    for j in range(-radius, radius + 1):
                        bins.add(((k * height // 8 + i) % height, (m * width // 8 + j) % width))
    amplitudes = [np.abs(np.fft.fft2(y, axes=(-2, -1), norm="ortho")) for y in (student, teacher)]
    differences = [np.abs(amplitudes[0][..., r, c] - amplitudes[1][..., r, c]) for r, c in bins]
    return float(np.mean(differences))


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_mfs_matches_numpy(radius: int) -> None:
    a, b = random_pictures(seed=1), random_pictures(seed=2)
    expected = numpy_mfs(a.double().numpy(), b.double().numpy(), radius)
    assert mfs_loss(a, b, radius).item() == pytest.approx(expected, rel=1e-5)


def test_mfs_sees_a_planted_grid_and_little_else() -> None:
    clean = random_pictures(1, 64, 64) * 0.5
    pattern = torch.zeros(8, 8)
    pattern[0, :], pattern[:, 0] = 0.1, 0.1
    planted = clean + pattern.repeat(8, 8)
    gentle = clean + 0.1 * torch.sin(torch.arange(64) * 2 * math.pi / 64)[None, None, :, None]
    assert mfs_loss(planted, clean) > 5 * mfs_loss(gentle, clean)
    assert mfs_loss(clean, clean) == 0


def test_harmonics_loss_matches_numpy_and_no_pattern_pleases_it() -> None:
    a, b = random_pictures(seed=1), random_pictures(seed=2)
    mask = harmonics_mask(*a.shape[-2:], 1).numpy()
    errors = np.fft.fft2((a - b).double().numpy(), axes=(-2, -1), norm="ortho")[..., mask]
    assert harmonics_loss(a, b).item() == pytest.approx(float(np.mean(np.abs(errors) ** 2)), rel=1e-5)
    sharp = random_pictures(1, 64, 64)
    smooth = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2, count_include_pad=False)
    patterned = smooth + (0.15 * torch.rand(8, 8, generator=torch.Generator().manual_seed(3))).repeat(8, 8)
    assert mfs_loss(patterned, sharp) < mfs_loss(smooth, sharp), (
        "MFS is pleased by a pattern that a smooth picture gets"
    )
    assert harmonics_loss(patterned, sharp) > harmonics_loss(smooth, sharp)


def test_one_sided_mfs_pays_no_smooth_student_for_a_pattern() -> None:
    sharp = random_pictures(1, 64, 64)
    pattern = (0.15 * torch.rand(8, 8, generator=torch.Generator().manual_seed(3))).repeat(8, 8)
    smooth = 0.2 * sharp
    assert mfs_loss(smooth, sharp, sided="above") == 0 < mfs_loss(smooth, sharp)
    assert mfs_loss(smooth + 5 * pattern, sharp, sided="above") > 0.01
    assert mfs_loss(sharp + pattern, sharp, sided="above") > 0
    a, b = random_pictures(seed=1), random_pictures(seed=2)
    halves = mfs_loss(a, b, sided="above") + mfs_loss(b, a, sided="above")
    torch.testing.assert_close(halves, mfs_loss(a, b))


def test_mfs_mask_leaves_the_mean_brightness_out() -> None:
    mask = harmonics_mask(64, 48, 1)
    assert not mask[0, 0] and mask[8, 0] and mask[0, 6] and mask[63 - 6, 0]
    assert int(mask.sum()) == 63 * 9


def test_mfs_refuses_sides_that_are_no_multiple_of_8() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8; got 30 x 32"):
        mfs_loss(torch.zeros(1, 3, 30, 32), torch.zeros(1, 3, 30, 32))


def test_randpad_moves_each_sample_by_its_offset() -> None:
    y = random_pictures(2, 16, 24)
    padded = randpad(y, [(0, 7), (5, 2)])
    assert padded.shape == (2, 3, 24, 32)
    assert torch.equal(padded[0, :, 0:16, 7:31], y[0])
    assert torch.equal(padded[1, :, 5:21, 2:26], y[1])
    expected = np.pad(y[1].numpy(), ((0, 0), (5, 3), (2, 6)), mode="reflect")
    np.testing.assert_array_equal(padded[1].numpy(), expected)


def test_randpad_equals_a_shifted_view_of_a_periodic_pattern() -> None:
    """Padding by (h, w) shifts the 8-pixel phase by (h, w): what a grid-bound observer sees is the rolled picture."""
    wide = random_pictures(1, 48, 48, seed=3)
    seen = randpad(wide, [(3, 6)])[..., 3 : 3 + 48, 6 : 6 + 48]
    assert torch.equal(seen, wide)
    grid_phase = randpad(wide, [(3, 6)])[..., 8:40, 8:40]
    assert torch.equal(grid_phase, wide[..., 5:37, 2:34])


def test_randpad_refuses_a_wrong_number_of_offsets() -> None:
    with pytest.raises(ValueError, match="1 offsets for a batch of 2"):
        randpad(torch.zeros(2, 3, 8, 8), [(0, 0)])


def test_offsets_cover_all_64_and_depend_on_nothing_but_seed_index_and_stream() -> None:
    drawn = draw_offsets(range(2000), seed=0, stream=1)
    counts = {offset: drawn.count(offset) for offset in drawn}
    assert set(counts) == {(r, c) for r in range(8) for c in range(8)}
    assert max(counts.values()) < 2000 / 64 + 6 * math.sqrt(2000 / 64)
    assert draw_offsets([7, 3], 0, 1) == [drawn[7], drawn[3]]
    assert draw_offsets(range(50), 0, 2) != drawn[:50]
    assert draw_offsets(range(50), 1, 1) != drawn[:50]


def test_zoom_is_drawn_from_its_range_by_seed_and_step_alone() -> None:
    drawn = [draw_zoom(step, 0, (0.5, 1.0)) for step in range(200)]
    assert 0.5 <= min(drawn) < 0.52 and 0.98 < max(drawn) <= 1.0
    assert drawn[5] == draw_zoom(5, 0, (0.5, 1.0)) != draw_zoom(5, 1, (0.5, 1.0))


def test_padding_comes_in_its_share_of_the_steps_and_is_undone() -> None:
    drawn = [draw_padding(step, [2 * step, 2 * step + 1], 0, 0.25) for step in range(400)]
    assert 0.18 < sum(offsets is not None for offsets in drawn) / 400 < 0.32
    assert draw_padding(0, [1], 0, 0.0) is None and draw_padding(0, [1], 0, 1.0) == draw_offsets([1], 0, 5)
    y, offsets = random_pictures(), [(3, 0), (7, 5)]
    assert torch.equal(unpad(randpad(y, offsets), offsets, 32, 40), y)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_student_sees_the_padded_pictures_and_is_judged_unpadded(probability: float) -> None:
    y, seen = random_pictures(), []

    def student(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return -x

    assert torch.equal(through_padding(student, y, 5, [10, 11], 0, probability), -y)
    assert torch.equal(seen[0], randpad(y, draw_offsets([10, 11], 0, 5)) if probability else y)


def grid_bound(x: torch.Tensor) -> torch.Tensor:
    """A restorer that writes at one place of every patch of 8 pixels."""
    pattern = torch.zeros(8, 8)
    pattern[2, 5] = 0.5
    return x + pattern.repeat(x.shape[-2] // 8, x.shape[-1] // 8)


def test_shift_loss_is_zero_where_the_grid_has_no_say() -> None:
    x = random_pictures()
    for student in (lambda given: given, lambda given: 0.5 * given - 0.1):
        assert shift_loss(student, x, student(x), [3, 4], 0) == 0
    y = grid_bound(x)
    offsets = draw_offsets([3, 4], 0, 6)
    assert all(offset != (0, 0) for offset in offsets), "at no offset the two results are one"
    assert shift_loss(grid_bound, x, y, [3, 4], 0).item() == pytest.approx(
        2 * 0.5 / 64
    )  # here one place, there another
    assert shift_loss(grid_bound, x, y, [3, 4], 0) == shift_loss(grid_bound, x, y, [3, 4], 0)


def test_shift_loss_has_a_gradient_through_the_first_result_alone() -> None:
    x, strength = random_pictures(), torch.tensor(1.0, requires_grad=True)
    seen: list[bool] = []

    def student(given: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        return given + strength * (grid_bound(given) - given)

    shift_loss(student, x, student(x), [3, 4], 0).backward()
    assert seen == [True, False]
    assert strength.grad is not None and strength.grad > 0, "less of the pattern is better"


def test_zoomed_takes_an_8_pixel_pattern_off_its_period() -> None:
    y = torch.zeros(1, 3, 64, 64)
    y[..., ::8] = 1.0
    assert zoomed(y, 1.0) is y
    smaller = zoomed(y, 0.75)
    assert smaller.shape == (1, 3, 48, 48)
    spectrum = torch.fft.rfft(smaller[0, 0, 0] - smaller[0, 0, 0].mean()).abs()
    assert int(spectrum.argmax()) == 8  # eight repeats in 48 pixels: a period of 6

"""Maps: what they measure, against formulas of their own, and that drawings can be read back."""

import math

import pytest
import torch

from gendrpix.comparison.sweep import ALL_OFFSETS
from gendrpix.image.resize import resize
from gendrpix.report.maps import (
    LEAST_TOP,
    cell_at,
    cell_box,
    consistency,
    difference,
    draw_heat,
    draw_spectrum,
    draw_sweep,
    harmonics,
    palette_color,
    spectrum,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5)) * 2 - 1


def test_difference_is_the_mean_over_the_channels() -> None:
    first, second = noise(1, 3, 9, 7), noise(1, 3, 9, 7).flip(-1)
    expected = sum((first[0, c, 4, 2] - second[0, c, 4, 2]).abs() / 2 for c in range(3)) / 3
    assert difference(first, second)[0, 0, 4, 2] == pytest.approx(float(expected))
    assert difference(first, first).max() == 0
    assert difference(torch.ones(1, 3, 2, 2), -torch.ones(1, 3, 2, 2)).min() == 1
    with pytest.raises(ValueError, match="shape"):
        difference(first, noise(1, 3, 9, 8))


def test_consistency_is_small_where_nothing_was_invented() -> None:
    source = resize(noise(1, 3, 6, 6), 24, 24)
    faithful = resize(source, 96, 96)
    invented = faithful.clone()
    invented[..., 40:56, 40:56] += 0.5
    assert consistency(faithful, source).shape == (1, 1, 24, 24)
    assert consistency(faithful, source).mean() < 0.02
    changed = consistency(invented, source) - consistency(faithful, source)
    assert changed[0, 0, 11:13, 11:13].min() > 0.1 and changed[0, 0, :6].abs().max() < 1e-6


def test_spectrum_of_an_8_pixel_stripe_lies_on_its_harmonic() -> None:
    columns = torch.arange(64)
    stripe = (0.5 * torch.cos(2 * math.pi * columns / 8)).expand(1, 3, 64, 64)
    shown = spectrum(stripe)
    row, column = divmod(int(shown.argmax()), 64)
    assert (row, column) in harmonics(64, 64) and row == 32 and abs(column - 32) == 8
    assert shown.max() == 0 and shown.min() >= -80
    assert len(set(harmonics(64, 64))) == 63
    assert spectrum(noise(1, 3, 70, 45)).shape == (64, 40)
    with pytest.raises(ValueError, match="at least 8"):
        spectrum(noise(1, 3, 7, 20))


def test_heat_has_a_scale_beside_it() -> None:
    values = torch.zeros(1, 1, 10, 20)
    values[..., 3, 4] = 1.0
    drawn = draw_heat(values, high=1.0, side_px=200)
    assert drawn.width > 200 and drawn.height >= 100
    assert drawn.getpixel((45, 35)) == drawn.getpixel((49, 39))  # one pixel is a square of ten
    assert sum(drawn.getpixel((45, 35))) > 3 * sum(drawn.getpixel((100, 80)))
    assert sum(drawn.getpixel((205 + 5, 20))) > 500  # the bar's top is bright
    tall = torch.zeros(1, 1, 4000, 2000)
    tall[..., 3000, 500] = 1.0  # a peak is not lost in a large map
    assert max(sum(pixel) for _, pixel in draw_heat(tall).crop((0, 0, 800, 1600)).getcolors()) > 500
    draw_heat(torch.full((1, 1, 4, 4), LEAST_TOP / 100))
    with pytest.raises(ValueError, match=r"\(1, 1, H, W\)"):
        draw_heat(values[0])


def test_spectrum_is_drawn_with_and_without_marks() -> None:
    values = spectrum(noise(1, 3, 64, 64))
    assert draw_spectrum(values).tobytes() != draw_spectrum(values, marked=False).tobytes()


@pytest.mark.parametrize("offset", [(0, 0), (2, 5), (7, 7)])
def test_a_click_finds_its_cell(offset: tuple[int, int]) -> None:
    left, top, right, bottom = cell_box(offset)
    for x, y in ((left, top), (right, bottom), ((left + right) / 2, (top + bottom) / 2)):
        assert cell_at(x, y) == offset
    assert cell_at(3, 3) is None and cell_at(10_000, 100) is None


@pytest.mark.parametrize("higher", [True, False])
def test_sweep_shows_the_best_brightest(higher: bool) -> None:
    values = {offset: float(number) for number, offset in enumerate(ALL_OFFSETS)}
    del values[3, 3]
    drawn = draw_sweep(values, higher_is_better=higher, marks={"P": (4, 4), "B": None})

    def color(offset: tuple[int, int]) -> tuple[int, int, int]:
        _, _, right, bottom = cell_box(offset)
        return drawn.getpixel((right - 3, bottom - 3))

    assert color((7, 7) if higher else (0, 0)) == palette_color(1.0)
    assert color((0, 0) if higher else (7, 7)) == palette_color(0.0)
    assert color((3, 3)) == (0xE3, 0xE6, 0xEA)
    assert drawn.tobytes() != draw_sweep(values, higher_is_better=higher, marks={}).tobytes()
    draw_sweep({}, higher_is_better=higher, marks={})

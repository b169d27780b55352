"""The sheet of crops and the plot of quality against time."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gendrpix.report.plots import Point, crops_sheet, plot_quality, save_figure
from gendrpix.specs import Box
from tests.helpers.pictures import photo


def test_tiles_are_the_crops_pixel_by_pixel() -> None:
    left, right = photo(40, 30), photo(40, 30).rotate(180)
    crops = [Box(0, 0, 8, 8), Box(30, 20, 10, 10)]
    sheet = np.asarray(crops_sheet({"Input": left, "GenDR-Pix*": right}, crops, tile_px=40, gap_px=4))
    assert sheet.shape == (24 + 2 * 44, 4 + 2 * 44, 3)
    for column, picture in enumerate((left, right)):
        for row, crop in enumerate(crops):
            y, x = 24 + row * 44, 4 + column * 44
            tile = sheet[y : y + 40, x : x + 40]
            step = 40 // crop.width
            assert np.array_equal(tile[step // 2 :: step, step // 2 :: step], np.asarray(picture.crop(crop.corners)))
    assert (sheet[:24] < 128).any()  # the labels


BAD = [
    ({}, [Box(0, 0, 4, 4)], "one size"),
    ({"a": photo(8, 8), "b": photo(9, 8)}, [Box(0, 0, 4, 4)], "one size"),
    ({"a": photo(8, 8)}, [], "at least one crop"),
    ({"a": photo(8, 8)}, [Box(5, 0, 4, 4)], "beyond the pictures, 8 x 8"),
    ({"a": photo(8, 8)}, [Box(0, 0, 0, 0)], "beyond the pictures"),
]


@pytest.mark.parametrize(("pictures", "crops", "message"), BAD)
def test_sheets_that_cannot_be_made_are_refused(pictures: dict, crops: list[Box], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crops_sheet(pictures, crops)


def test_the_plot_shows_each_point_and_the_direction(tmp_path: Path) -> None:
    points = [Point(label="GenDR", seconds=2.0, value=60), Point(label="GenDR-Pix*", seconds=0.3, value=58)]
    figure = plot_quality(points, "musiq", conditions="512 x 512, cpu, float32")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert "higher is better" in axes.get_ylabel()
    assert "512 x 512" in axes.get_xlabel()
    assert {text.get_text() for text in axes.texts} == {"GenDR", "GenDR-Pix*"}
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 60.0], [0.3, 58.0]]
    save_figure(figure, tmp_path / "plot.png")
    with PIL.Image.open(tmp_path / "plot.png") as image:
        assert image.width > 600


def test_plots_without_points_or_with_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_quality([], "musiq")
    with pytest.raises(ValueError, match="Unknown metric"):
        plot_quality([Point(label="a", seconds=1, value=1)], "fid")

"""Tiles against the whole picture: the weights, the grid's phase, seams, and PNGs written band by band."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gendrpix.errors import PictureError
from gendrpix.image.picture import Picture
from gendrpix.image.png import PngStream
from gendrpix.image.resize import resize, resize_rows
from gendrpix.image.write import to_array, to_pil
from gendrpix.models.tiling import blend_weights, plan_spans, restore_bands, restore_tiled
from gendrpix.restore.streaming import restore_to_png, stream_png
from gendrpix.settings.checks import checked_tile
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import MIN_TILE_PX, OVERLAP_PX
from tests.helpers.models import tiny_pipeline

TILE = MIN_TILE_PX
BLEND_ERROR = 1e-6
"""Weights add up to 1 to float32's rounding; samples are at most 1."""


def random_pixels(height: int, width: int, channels: int = 3, batch: int = 1) -> Tensor:
    return torch.rand(batch, channels, height, width) * 2 - 1


def local_network(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Three 3 x 3 convolutions of the pixel-unshuffled picture: it sees 24 pixels, and where the 8-pixel grid lies."""
    generator = torch.Generator().manual_seed(seed)
    kernels = [torch.randn(192, 192, 3, 3, generator=generator) * 0.02 for _ in range(3)]

    def predict(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, (0, -width % 8, 0, -height % 8))
        hidden = F.pixel_unshuffle(padded, 8)
        for kernel in kernels:
            hidden = torch.tanh(F.conv2d(hidden, kernel, padding=1))
        return F.pixel_shuffle(hidden, 8)[..., :height, :width]

    return predict


# Where the tiles lie -----------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(16, 80).map(lambda positions: positions * 8), st.sampled_from([16, 32, 64]))
def test_spans_cover_the_axis_on_the_grid(size: int, tile: int, overlap: int) -> None:
    spans = plan_spans(size, tile, overlap)
    assert (spans[0].start, spans[-1].stop) == (0, size)
    if size <= tile:
        assert spans == ((0, size),)
        return
    assert all(span.start % 8 == 0 for span in spans)
    assert all(span.stop - span.start == tile for span in spans[:-1])
    assert tile - 8 < spans[-1].stop - spans[-1].start <= tile
    shared = [left.stop - right.start for left, right in pairwise(spans)]
    assert min(shared) >= overlap
    assert (len(spans) - 1) * (tile - overlap) + overlap < size + 7  # one tile fewer would not reach


@given(st.integers(129, 2000), st.sampled_from([128, 136, 200, 512]), st.sampled_from([16, 64]))
def test_weights_are_a_partition_of_unity(size: int, tile: int, overlap: int) -> None:
    spans = plan_spans(size, tile, overlap)
    weights = blend_weights(spans, overlap)
    total = torch.zeros(size)
    for index, (span, weight) in enumerate(zip(spans, weights, strict=True)):
        assert weight.min() >= 0 and weight.max() <= 1
        total[span.start : span.stop] += weight
        outer = overlap // 4  # what a tile knows least about is thrown away
        if index:
            assert not weight[:outer].any()
        if index + 1 < len(spans):
            assert not weight[len(weight) - outer :].any()
            assert (weight[1:] - weight[:-1]).abs().max() <= 3 / overlap + 1e-6  # a smooth step's steepest slope
    assert (total - 1).abs().max() <= BLEND_ERROR


def test_tiles_too_small_or_off_the_grid_are_refused() -> None:
    assert checked_tile(MIN_TILE_PX) == MIN_TILE_PX
    for tile in (0, -8, MIN_TILE_PX - 8, MIN_TILE_PX + 4):
        with pytest.raises(ValueError, match=f"expected a multiple of 8, {MIN_TILE_PX} or more"):
            checked_tile(tile)


# What they add up to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (128, 128), (129, 300), (301, 130), (40, 1000), (513, 517)])
def test_the_identity_in_tiles_is_the_identity(size: tuple[int, int]) -> None:
    pixels = random_pixels(*size, batch=2)
    restored = restore_tiled(pixels, lambda tile: tile, TILE)
    assert (restored - pixels).abs().max() <= BLEND_ERROR


@pytest.mark.parametrize("size", [(128, 400), (297, 221), (350, 333)])
def test_a_local_network_has_no_seams(size: tuple[int, int]) -> None:
    """With the 24 pixels that it sees inside what is thrown away, tiles equal the whole, across every border."""
    pixels, predict = random_pixels(*size), local_network()
    whole, tiled = predict(pixels), restore_tiled(pixels, predict, 256, overlap_px=128)
    assert whole.std() > 0.1
    assert (tiled - whole).abs().max() <= 1e-5


def test_tiles_off_the_grid_would_be_seen() -> None:
    """The network of the test above tells the grid's phase: the same tiles 4 pixels further are far off."""
    pixels, predict = random_pixels(256, 256), local_network()
    off = restore_tiled(pixels[..., 4:, 4:], predict, TILE)[..., 60:-64, 60:-64]
    assert (off - predict(pixels)[..., 64:-64, 64:-64]).abs().max() > 0.1


def test_every_tile_lies_on_the_grid_for_the_network() -> None:
    place = torch.stack(torch.meshgrid(torch.arange(333.0), torch.arange(451.0), indexing="ij"))[None]
    corners = []

    def predict(tile: Tensor) -> Tensor:
        corners.append(tuple(int(value) for value in tile[0, :2, 0, 0]))
        assert max(tile.shape[-2:]) <= TILE
        return tile

    restore_tiled(place, predict, TILE)
    assert len(corners) == 5 * 7 and all(row % 8 == column % 8 == 0 for row, column in corners)


@pytest.mark.parametrize("tile", [None, 128, 136])
def test_a_tile_as_large_as_the_picture_is_the_untiled_call(tile: int | None) -> None:
    pixels, result = random_pixels(128, 90), torch.ones(1)
    seen = []

    def predict(given: Tensor) -> Tensor:
        seen.append(given)
        return result

    assert restore_tiled(pixels, predict, tile) is result
    assert len(seen) == 1 and seen[0] is pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_and_dtype_are_the_predictions(dtype: torch.dtype) -> None:
    pixels = random_pixels(200, 140).to(dtype)
    both = restore_tiled(pixels, lambda tile: torch.cat([tile, -tile], dim=1), TILE)
    assert both.dtype == dtype and both.shape == (1, 6, 200, 140)
    assert (both[:, :3] - pixels).abs().max() <= (BLEND_ERROR if dtype == torch.float32 else 0.01)


@pytest.mark.parametrize("name", ["gendr", "gendr-adc", "gendr-pix"])
def test_every_restorer_runs_in_tiles(name: str) -> None:
    """Normalisation sees one tile and not the picture, so that the tiles are near the whole, not equal to it."""
    pipeline = tiny_pipeline(name)
    pixels = F.interpolate(random_pixels(24, 20), size=(190, 157), mode="bicubic").clamp(-1, 1)
    whole, tiled = pipeline.restore(pixels), restore_tiled(pixels, pipeline.restore, TILE)
    assert tiled.shape == whole.shape
    assert 0 < (tiled - whole).abs().mean() < 0.2 * (whole - pixels).abs().mean()


def test_guided_tiles_are_guided_whole_where_all_is_local() -> None:
    """PadCFG of a local network: each tile is padded by its own offsets and cropped, and nothing shifts."""
    pipeline, predict = tiny_pipeline("gendr-pix"), local_network()
    pipeline._predict = lambda pixels, prompts: predict(pixels)

    def guided(pixels: Tensor) -> Tensor:
        return pipeline.restore_guided(pixels, 1.5)[0]

    pixels = random_pixels(300, 283)
    assert (restore_tiled(pixels, guided, 256, overlap_px=128) - guided(pixels)).abs().max() <= 1e-5


# Band by band ------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(1, 150)] * 2), st.data())
def test_resized_rows_are_those_of_the_whole(
    size: tuple[int, int], target: tuple[int, int], data: st.DataObject
) -> None:
    x = random_pixels(*size, channels=1)
    top = data.draw(st.integers(0, target[0] - 1))
    bottom = data.draw(st.integers(top + 1, target[0]))
    whole = resize(x, *target)[..., top:bottom, :]
    assert (resize_rows(x, target, top, bottom) - whole).abs().max() <= 3e-6


def test_rows_outside_the_picture_are_refused() -> None:
    for top, bottom in ((-1, 3), (3, 3), (2, 9)):
        with pytest.raises(ValueError, match="expected a part of 0 to 8"):
            resize_rows(random_pixels(4, 4), (8, 8), top, bottom)


def test_only_a_row_of_tiles_is_read_at_a_time_and_bands_join() -> None:
    pixels, reads = random_pixels(500, 200), []

    def read(top: int, bottom: int) -> Tensor:
        reads.append((top, bottom))
        return pixels[..., top:bottom, :]

    predict = local_network()
    bands = []
    for band in restore_bands(read, (500, 200), predict, TILE):
        bands.append(band)
        assert len(reads) == len(bands)  # nothing is read ahead
    assert all(bottom - top <= TILE for top, bottom in reads)
    assert torch.equal(torch.cat(bands, dim=-2), restore_tiled(pixels, predict, TILE))


@given(st.integers(1, 12), st.integers(1, 9), st.sampled_from([3, 4]), st.sampled_from([8, 16]), st.data())
def test_a_png_in_bands_decodes_to_its_samples(
    height: int, width: int, channels: int, bits: int, data: st.DataObject
) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    values = np.random.default_rng(height * width).integers(0, 2**bits, (height, width, channels)).astype(dtype)
    file = io.BytesIO()
    png = PngStream(file, width, height, channels=channels, bits=bits, metadata={"Author": "naïve"})
    top = 0
    while top < height:
        rows = data.draw(st.integers(1, height - top))
        png.write(values[top : top + rows])
        top += rows
    png.close()
    with Image.open(io.BytesIO(file.getvalue())) as image:
        image.load()
        assert image.text == {"Author": "naïve"} and image.mode == ("RGB" if channels == 3 else "RGBA")
        assert np.array_equal(np.asarray(image), values if bits == 8 else values >> 8)


def test_a_png_of_missing_surplus_or_wrong_rows_is_refused() -> None:
    png = PngStream(io.BytesIO(), 4, 3)
    png.write(np.zeros((2, 4, 3), np.uint8))
    for rows in (np.zeros((2, 4, 3), np.uint8), np.zeros((1, 5, 3), np.uint8), np.zeros((1, 4, 3), np.uint16)):
        with pytest.raises(ValueError, match=r"after 2 rows; expected uint8 \(at most 1, 4, 3\)"):
            png.write(rows)
    with pytest.raises(ValueError, match="got 2 rows; expected 3"):
        png.close()
    with pytest.raises(ValueError, match="1 to 4 channels"):
        PngStream(io.BytesIO(), 4, 3, channels=5)


@pytest.mark.parametrize("scale", [1, 2.3, 4])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_a_streamed_file_is_the_unstreamed_picture(scale: float, with_alpha: bool, tmp_path: Path) -> None:
    alpha = torch.rand(1, 1, 90, 61) if with_alpha else None
    picture, predict, shares = Picture(color=random_pixels(90, 61), alpha=alpha), local_network(), []
    path = stream_png(
        picture, tmp_path / "out.png", predict, scale=scale, tile_px=TILE, progress=shares.append, metadata={"a": "b"}
    )
    size = (int(90 * scale + 0.5), int(61 * scale + 0.5))
    restored = restore_tiled(resize(picture.color, *size), predict, TILE)
    enlarged = None if alpha is None else (resize(alpha * 2 - 1, *size) + 1) / 2
    with Image.open(path) as image:
        difference = np.abs(np.asarray(image).astype(int) - to_array(restored, enlarged))
        assert image.text["a"] == "b"
    assert difference.max() <= 1 and difference.mean() < 1e-4  # a sample on the edge of rounding may fall otherwise
    assert shares == sorted(shares) and shares[-1] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["out.png"]


def test_a_streamed_identity_is_the_resized_picture_exactly(tmp_path: Path) -> None:
    picture = Picture(color=torch.randint(0, 256, (1, 3, 70, 150)) / 127.5 - 1)
    path = stream_png(picture, tmp_path / "out.png", lambda tile: tile, scale=1, tile_px=TILE)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(to_pil(picture.color)))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_interrupted_stream_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    calls = []

    def predict(tile: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 6:
            assert len(list(tmp_path.iterdir())) == 1  # the unfinished file, beside its name
            raise error
        return tile

    with pytest.raises(type(error)):
        stream_png(Picture(color=random_pixels(100, 60)), tmp_path / "out.png", predict, scale=4, tile_px=TILE)
    assert len(calls) == 6 and not list(tmp_path.iterdir())


def test_refusals_of_a_stream_come_before_any_work(tmp_path: Path) -> None:
    def never(tile: Tensor) -> Tensor:
        raise AssertionError

    path = tmp_path / "out.png"
    path.write_bytes(b"mine")
    small = Picture(color=random_pixels(8, 8))
    with pytest.raises(PictureError, match="exists already"):
        stream_png(small, path, never, scale=2, tile_px=TILE)
    with pytest.raises(ValueError, match="expected a multiple of 8"):
        stream_png(small, path, never, scale=2, tile_px=OVERLAP_PX)
    with pytest.raises(ValueError, match="keyword"):
        stream_png(small, path, never, scale=2, tile_px=TILE, metadata={"": "x"})
    assert path.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("guidance", [None, 1.5])
def test_a_restorer_streams_what_its_tiles_give(guidance: float | None, tmp_path: Path) -> None:
    pipeline, picture = tiny_pipeline("gendr-pix"), Picture(color=random_pixels(75, 50))
    path = tmp_path / "out.png"
    settings = RestoreSettings(scale=2, guidance=guidance, tile=TILE)
    plan = restore_to_png(pipeline, picture, path, settings, budget_bytes=2**40)
    assert plan.tile_px == TILE
    tiles = restore_tiled(
        resize(picture.color, 150, 100), lambda tile: pipeline.restore_guided(tile, guidance)[0], TILE
    )
    with Image.open(path) as image:
        difference = np.abs(np.asarray(image).astype(int) - to_array(tiles))
    assert difference.max() <= 1 and difference.mean() < 0.01
    with pytest.raises(ValueError, match="choose a smaller scale"):
        restore_to_png(pipeline, picture, tmp_path / "no.png", RestoreSettings(), budget_bytes=1000)
    assert [item.name for item in tmp_path.iterdir()] == ["out.png"]


def test_tiles_between_two_grids() -> None:
    """Pixels to a grid of 8 and back, by means and by repetition, which see no further than one position."""
    pixels = torch.rand(1, 2, 304, 400)
    coarse = torch.nn.functional.avg_pool2d(pixels, 8)
    tiled = restore_tiled(pixels, lambda x: torch.nn.functional.avg_pool2d(x, 8), 128, made_px=8)
    torch.testing.assert_close(tiled, coarse)
    fine = restore_tiled(coarse, lambda x: x.repeat_interleave(8, -1).repeat_interleave(8, -2), 128, read_px=8)
    torch.testing.assert_close(fine, coarse.repeat_interleave(8, -1).repeat_interleave(8, -2))

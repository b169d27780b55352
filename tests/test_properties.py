"""What holds for every size, pad, scale and mode. With `--slow` for all of them; else for the telling ones."""

import functools
import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.image.resize import output_size, resize
from gendrpix.restore.guidance import mix
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.restore.planner import restore_within
from tests.helpers.models import tiny_pipeline
from tests.helpers.pictures import photo

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
OFFSETS = tuple(itertools.product(range(8), range(8)))
TELLING = (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 96, 97)
MIX_ERROR = 2e-6
"""omega y + (1 - omega) y in float32 against y, for omega up to 3."""
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F")


def noise(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width)) * 2 - 1


@functools.cache
def pix() -> RestorerPipeline:
    return tiny_pipeline("gendr-pix")


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> RestorerPipeline:
    """GenDR-Pix whose network gives back what it is given: all else is as shipped."""
    monkeypatch.setattr("gendrpix.restore.pipelines.predict", lambda _unet, hidden, _prompts, **_: hidden)
    return pix()


@pytest.fixture
def marking(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The network adds a number for the place in the cell of 8 x 8: what it adds, (64, 1) by row and column."""
    marks = torch.arange(64.0) / 64

    def predict(_unet: object, hidden: Tensor, _prompts: Tensor, **_: object) -> Tensor:
        return hidden + marks.repeat(3)[None, :, None, None]  # channels are colour, row, column (U8)

    monkeypatch.setattr("gendrpix.restore.pipelines.predict", predict)
    return marks


# The identity ---------------------------------------------------------------------------------------------------------


def check_identity(pipeline: RestorerPipeline, height: int, width: int, scale: float, number: int) -> None:
    """Restoring is resizing: exactly without guidance, to rounding with it. `number` chooses the pads."""
    picture = Picture(color=noise(height, width))
    pixels = pipeline.prepare(picture, scale)
    assert torch.equal(pixels, resize(picture.color, *output_size(height, width, scale)))
    assert torch.equal(pipeline.restore(pixels), pixels)
    pos_pad, neg_pad = OFFSETS[number % 64], OFFSETS[number // 64 % 64]
    restored, _ = pipeline.restore_guided(pixels, 1.5, pos_pad=pos_pad, neg_pad=neg_pad, batched=bool(number % 2))
    assert (restored - pixels).abs().max() <= MIX_ERROR, f"{height} x {width}, scale {scale}, {pos_pad}, {neg_pad}"


@pytest.mark.parametrize("scale", SCALES)
def test_the_identity_for_telling_sizes(identity: RestorerPipeline, scale: float) -> None:
    sizes = itertools.product(TELLING, TELLING)
    for number, (height, width) in enumerate(sizes):
        check_identity(identity, height, width, scale, number * 29)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_the_identity_for_every_size(identity: RestorerPipeline, scale: float) -> None:
    """1 x 1 to 97 x 97, each with other pads; 4,096 of them in turn."""
    for number, (height, width) in enumerate(itertools.product(range(1, 98), repeat=2)):
        check_identity(identity, height, width, scale, number)


def test_the_identity_through_the_whole_call(identity: RestorerPipeline) -> None:
    for height, width, scale in ((1, 1, 4.0), (1, 97, 1.5), (5, 3, 3.0), (64, 40, 2.0)):
        picture = Picture(color=noise(height, width))
        expected = resize(picture.color, *output_size(height, width, scale))
        assert torch.equal(identity(picture, scale=scale, output_type="pt").images, expected)
        guided = identity(picture, scale=scale, guidance=3.0, output_type="pt").images
        assert (guided - expected).abs().max() <= 2 * MIX_ERROR


def check_every_pad(pipeline: RestorerPipeline, height: int, width: int) -> None:
    pixels = noise(height, width)
    for pos_pad, neg_pad in itertools.product(OFFSETS, OFFSETS):
        restored, _ = pipeline.restore_guided(pixels, 1.5, pos_pad=pos_pad, neg_pad=neg_pad)
        assert (restored - pixels).abs().max() <= MIX_ERROR, (pos_pad, neg_pad)


def test_the_identity_for_every_pad_of_the_smallest_picture(identity: RestorerPipeline) -> None:
    check_every_pad(identity, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 9), (8, 8), (13, 24), (40, 33)])
def test_the_identity_for_every_pad(identity: RestorerPipeline, height: int, width: int) -> None:
    check_every_pad(identity, height, width)


# PadCFG's branches ----------------------------------------------------------------------------------------------------


def placed(marks: Tensor, offset: tuple[int, int], height: int, width: int) -> Tensor:
    """(H, W): what the network adds at each pixel when the picture is moved by the offset."""
    rows, columns = (torch.arange(size) + shift for size, shift in zip((height, width), offset, strict=True))
    return marks.reshape(8, 8)[rows[:, None] % 8, columns[None, :] % 8]


def check_alignment(marks: Tensor, height: int, width: int, pairs: Iterator[tuple]) -> None:
    pixels = noise(height, width)
    for pos_pad, neg_pad in pairs:
        branches = pix().restore_branches(pixels, pos_pad=pos_pad, neg_pad=neg_pad)
        for branch, offset in zip(branches, (pos_pad, neg_pad), strict=True):
            assert torch.equal(branch, pixels + placed(marks, offset, height, width)), (pos_pad, neg_pad)


def test_branches_are_aligned_to_the_pixel_for_all_64_x_64_offsets(marking: Tensor) -> None:
    """Each branch sees the grid at its own offset, and every pixel comes back to its own place."""
    check_alignment(marking, 5, 11, itertools.product(OFFSETS, OFFSETS))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 17), (16, 16), (31, 8)])
def test_branches_are_aligned_whatever_the_size(marking: Tensor, height: int, width: int) -> None:
    check_alignment(marking, height, width, itertools.product(OFFSETS, OFFSETS))


# Any size, mode, pad and scale, with a network that does something ----------------------------------------------------


@settings(max_examples=30)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), mode=st.sampled_from(MODES),
    scale=st.floats(1, 3), omega=st.none() | st.floats(0, 3),
    pos_pad=st.sampled_from(OFFSETS), neg_pad=st.sampled_from(OFFSETS),
)  # fmt: skip
def test_shape_range_and_determinism(height, width, mode, scale, omega, pos_pad, neg_pad) -> None:
    image = photo(width, height)
    image = image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    picture = open_picture(image)
    how = {"scale": scale, "guidance": omega, "pos_pad": pos_pad, "neg_pad": neg_pad, "output_type": "pt"}
    first, second = (pix()(picture, **how).images for _ in range(2))
    assert first.shape == (1, 3, *output_size(height, width, scale))
    assert first.isfinite().all() and first.abs().max() <= 1
    assert torch.equal(first, second), "two runs of one plan are equal bit for bit"
    opened = pix()(image, **{**how, "output_type": "pil"}).images[0]
    base = "L" if open_picture(image).grey else "RGB"
    assert opened.mode == (f"{base}A" if mode == "LA" or mode == "RGBA" else base)
    assert opened.size == first.shape[:1:-1]


@pytest.mark.parametrize(
    ("omega", "batched", "tile"),
    [(None, True, None), (1.5, True, None), (1.5, False, None), (None, True, 128), (1.5, True, 128), (1.5, False, 128)],
)
def test_every_plan_repeats_itself_bit_for_bit(omega: float | None, batched: bool, tile: int | None) -> None:
    pixels = noise(136, 200)
    first, second = (restore_within(pix(), pixels, omega, batched=batched, tile=tile).restored for _ in range(2))
    assert torch.equal(first, second)


@settings(max_examples=15)
@given(height=st.integers(1, 40), width=st.integers(1, 40), count=st.integers(2, 5), omega=st.none() | st.floats(0, 3))
def test_a_batch_equals_its_single_runs_to_a_level_of_255(height, width, count, omega) -> None:
    pixels = torch.cat([noise(height, width).roll(number, dims=-1) for number in range(count)])
    together, branches = pix().restore_guided(pixels, omega)
    for number in range(count):
        alone, _ = pix().restore_guided(pixels[number : number + 1], omega)
        assert (together[number] - alone[0]).abs().max() <= 2 / 255
    if branches is not None:
        assert torch.equal(mix(branches, omega).clamp(-1, 1), together)

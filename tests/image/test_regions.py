import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gendrpix.image.picture import Box, Picture, cut, place_box
from tests.helpers.pictures import assert_sentence

sizes = st.integers(1, 60)


@given(width=sizes, height=sizes, across=st.floats(0, 1), down=st.floats(0, 1), side_px=st.integers(1, 90))
def test_box_is_within_and_as_large_as_it_can_be(
    width: int, height: int, across: float, down: float, side_px: int
) -> None:
    box = place_box(width, height, across=across, down=down, side_px=side_px)
    left, top, right, bottom = box.corners
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert (box.width, box.height) == (min(side_px, width), min(side_px, height))


def test_box_is_centred_where_it_can_be() -> None:
    assert place_box(100, 80, across=0.5, down=0.25, side_px=20) == Box(40, 10, 20, 20)
    assert place_box(100, 80, across=0.0, down=1.0, side_px=20) == Box(0, 60, 20, 20)


def test_cut_takes_colour_and_alpha_of_the_box_alone() -> None:
    color, alpha = torch.rand(1, 3, 9, 7) * 2 - 1, torch.rand(1, 1, 9, 7)
    part = cut(Picture(color=color, alpha=alpha, notes=("first of 2 frames",)), Box(2, 3, 4, 5))
    assert torch.equal(part.color, color[..., 3:8, 2:6])
    assert part.alpha is not None and torch.equal(part.alpha, alpha[..., 3:8, 2:6])
    assert part.notes == ("first of 2 frames",)


@pytest.mark.parametrize("box", [(0, 0, 8, 1), (-1, 0, 2, 2), (0, 0, 0, 3), (0, 5, 3, 5)])
def test_box_beyond_the_picture_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="7 x 9") as caught:
        cut(Picture(color=torch.zeros(1, 3, 9, 7)), box)
    assert_sentence(str(caught.value))

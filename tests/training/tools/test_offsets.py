"""PadCFG's offsets from measured patterns: the choice, its interval, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gendrpix.metrics.offsets import predicted_levels
from tests.helpers.models import tiny_pipeline
from training.__main__ import main
from training.tools.offset_choice import choose_offsets


def patterns(noise: float, pictures: int = 40) -> tuple[Tensor, Tensor]:
    """(N, 3, 8, 8) of the two branches: one pattern that repeats every 4 rows, and each picture's chance."""
    generator = torch.Generator().manual_seed(5)
    wave = 0.02 * torch.cos(torch.arange(8) * torch.pi / 2).view(8, 1).expand(3, 8, 8).double()
    chance = noise * torch.randn(2, pictures, 3, 8, 8, generator=generator, dtype=torch.float64)
    return wave + chance[0], wave + chance[1]


def test_the_best_is_taken_where_it_beats_the_papers_by_more_than_the_interval() -> None:
    positive, negative = patterns(noise=0.001)
    choice = choose_offsets(positive, negative, torch.full((40,), 64), omega=1.5)
    assert choice.best[0] % 4 == 0, "the branches' waves lie on each other and cancel in part"
    assert choice.beats_paper and choice.offsets[0] == (4, 4) and choice.offsets[1][0] in (0, 4)
    assert choice.low[choice.best] <= choice.levels[choice.best] <= choice.high[choice.best]
    expected = predicted_levels(positive.mean(0), negative.mean(0), 1.5)
    torch.testing.assert_close(choice.levels, expected)
    assert choice.gain[0] == pytest.approx(float(expected[1, 1] - expected.min()))


def test_chance_alone_leaves_the_papers_offsets() -> None:
    generator = torch.Generator().manual_seed(1)
    chance = torch.randn(2, 6, 3, 8, 8, generator=generator, dtype=torch.float64)
    chance[1] *= 1e-3  # the negative branch is as good as flat: all differences leave the same
    choice = choose_offsets(chance[0], chance[1], torch.full((6,), 64), omega=1.5)
    assert not choice.beats_paper and choice.offsets == ((4, 4), (3, 3))


def test_pictures_count_by_their_patches() -> None:
    positive, negative = patterns(noise=0.01, pictures=2)
    choice = choose_offsets(positive, negative, torch.tensor([300, 100]), omega=2.0)
    means = (0.75 * one[0] + 0.25 * one[1] for one in (positive, negative))
    torch.testing.assert_close(choice.levels, predicted_levels(*means, 2.0))
    with pytest.raises(ValueError, match="needs two or more"):
        choose_offsets(positive[:1], negative[:1], torch.tensor([4]), omega=2.0)


@pytest.mark.usefixtures("tiny")
def test_the_command_predicts_measures_and_saves(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_pipeline("gendr-pix").save_pretrained(tmp_path / "gendr-pix")
    words = ["offsets", "--weights", str(tmp_path / "gendr-pix"), "--photos", str(photos), "--out"]
    words += [str(tmp_path / "offsets.json"), "--device", "cpu", "--measured", "4"]
    assert main(words) == 0, capsys.readouterr().err
    told = json.loads((tmp_path / "offsets.json").read_text())
    assert len(told["predicted"]) == 8 and len(told["measured"]) == 4 and told["pictures"] == 4
    for one in told["measured"]:  # random weights write a strong pattern, which the prediction knows
        row, column = one["difference"]
        assert one["levels"] == pytest.approx(told["predicted"][row][column], rel=0.3) and one["correlation"] > 0.8
    assert main(words) == 1 and "exists already" in capsys.readouterr().err

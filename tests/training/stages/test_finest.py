"""The stage `finest`: what it trains, resumes and exports."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from gendrpix.models.networks import build_unet
from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import EVEN
from tests.helpers.stages import assert_same, stage_words
from training.__main__ import main
from training.initializers.subpatch import SubpatchNetwork

ENDS = (192, 192)


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {EVEN.name: EVEN})


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize(("ema_decay", "padded_probability"), [(0.9, "0"), (0.0, "0.5")])
def test_two_halves_equal_the_whole_run(
    tmp_path: Path, photos: Path, ema_decay: float, padded_probability: str
) -> None:
    def words(run: str) -> list[str]:
        options = {"checkpoint_every": 2, "sample_every": 2, "ema_decay": ema_decay}
        staged = stage_words("finest", tmp_path, photos, tmp_path / run, steps=4, **options)
        return [*staged, "--model", EVEN.name, "--padded-probability", padded_probability]

    assert main(words("whole")) == 0
    middle = Path("checkpoints/step-00000002")
    shutil.copytree(tmp_path / "whole" / middle, tmp_path / "halves" / middle)
    assert main(words("halves")) == 0
    whole, halves = (load_restorer("gendr-pix", tmp_path / run / "weights") for run in ("whole", "halves"))
    assert_same(dict(whole.unet.state_dict()), dict(halves.unet.state_dict()))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert 0 < (whole.restore(x) - x).abs().mean() < 0.5, "it has learnt something, and is not far from where it began"


@pytest.mark.usefixtures("even")
def test_it_goes_on_from_earlier_weights(tmp_path: Path, photos: Path) -> None:
    first = stage_words("finest", tmp_path, photos, tmp_path / "first", steps=2)
    still = {"learning_rate": 0, "final_learning_rate": 0, "ema_decay": 0}
    again = stage_words("finest", tmp_path, photos, tmp_path / "again", steps=1, **still)
    start = ["--start", str(tmp_path / "first/weights/gendr-pix")]
    assert main([*first, "--model", EVEN.name]) == 0
    assert main([*again, "--model", EVEN.name, *start]) == 0
    one, other = (load_restorer("gendr-pix", tmp_path / run / "weights") for run in ("first", "again"))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert (one.restore(x) - x).abs().mean() > 0
    torch.testing.assert_close(other.restore(x), one.restore(x), atol=2e-3, rtol=0)


@pytest.mark.usefixtures("even")
def test_the_perceptual_term_changes_what_is_learnt(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(run: str, *more: str) -> list[str]:
        return [*stage_words("finest", tmp_path, photos, tmp_path / run, steps=2), "--model", EVEN.name, *more]

    term = ("--perceptual", "lpips-squeeze", "--perceptual-weight")
    for run, weight in (("none", "0"), ("some", "1")):
        assert main(words(run, *term, weight)) == 0
    without, with_it = (load_restorer("gendr-pix", tmp_path / run / "weights") for run in ("none", "some"))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert (without.restore(x) - with_it.restore(x)).abs().max() > 0
    assert main(words("encoder", "--perceptual", "encoder", "--perceptual-weight", "1")) != 0
    assert "needs an autoencoder" in capsys.readouterr().err


@pytest.mark.usefixtures("even")
def test_a_dry_run_counts_the_small_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finest", "--preset", "mini", "--model", EVEN.name, "--dry-run", "--run", str(tmp_path)]) == 0
    count = sum(p.numel() for p in SubpatchNetwork(build_unet(EVEN, *ENDS)).parameters())
    assert f"student {count / 1e6:15.2f} M" in capsys.readouterr().out


def test_a_family_whose_pix_does_not_add_to_its_input_is_refused(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    direct = dataclasses.replace(EVEN, forms={**EVEN.forms, "gendr-pix": "direct"})
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {EVEN.name: direct})
    words = [*stage_words("finest", tmp_path, photos, tmp_path / "run", steps=1), "--model", EVEN.name]
    assert main(words) == 1
    assert "has the form 'direct'; expected residual" in capsys.readouterr().err

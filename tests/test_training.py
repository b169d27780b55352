"""Every stage through its command, for two real steps, each from what the one before has exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from models import save_tiny_family
from pictures import photo
from stages import WEIGHTS, stage_words

from gendrpix.pipelines import load_restorer
from gendrpix.weights import load_autoencoder
from training.__main__ import main


@pytest.mark.usefixtures("tiny")
def test_the_four_stages_one_after_the_other(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = tmp_path / "family"
    family.mkdir()
    for stage, name in WEIGHTS.items():
        run = tmp_path / stage
        words = stage_words(stage, family, photos, run, steps=2, checkpoint_every=1, sample_every=2)
        assert main(words) == 0, capsys.readouterr().err
        (family / name).symlink_to(run / "weights" / name)
        assert [p.name for p in sorted((run / "checkpoints").glob("step-*"))] == ["step-00000001", "step-00000002"]
        assert (run / "samples" / "000002.png").is_file()
        assert json.loads((run / "config.json").read_text())["loop"]["steps"] == 2
    assert load_autoencoder(family / "autoencoder").config.scaling_factor != 1.0
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        restorer = load_restorer(name, family)
        assert {p.dtype for p in restorer.unet.parameters()} == {torch.float32}
        result = restorer(photo(11, 9), scale=2.0, output_type="pt").images
        assert result.shape == (1, 3, 18, 22) and result.isfinite().all() and result.abs().max() <= 1
    guided = load_restorer("gendr-pix", family)(photo(11, 9), scale=2.0, guidance=1.5, output_type="pt").images
    assert guided.isfinite().all()


@pytest.mark.usefixtures("tiny")
def test_an_autoencoder_can_be_continued(tmp_path: Path, photos: Path) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    words = stage_words("autoencoder", family, photos, tmp_path / "run", steps=1)
    still = ["--loop.learning-rate", "0", "--loop.final-learning-rate", "0", "--loop.ema-decay", "0"]
    assert main([*words, "--start", str(family / "autoencoder"), *still]) == 0
    before, after = (load_autoencoder(at) for at in (family / "autoencoder", tmp_path / "run/weights/autoencoder"))
    for own, first in zip(after.parameters(), before.parameters(), strict=True):
        assert torch.equal(own, first.half().float())


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "options",
    [
        ["--backbone", "none"],
        ["--backbone", "gendr", "--no-randpad", "--perceptual-zoom", "0.5", "1.0"],
        ["--perceptual", "none", "--mfs-weight", "0", "--real", "teacher"],
        ["--distill-weight", "0", "--loop.ema-decay", "0"],
        ["--loop.gradient-checkpointing", "--loop.mixed-precision", "bf16"],
    ],
    ids=lambda options: " ".join(options),
)
def test_each_term_of_pix_can_be_switched_off(tmp_path: Path, photos: Path, options: list[str]) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    assert main(stage_words("pix", family, photos, tmp_path / "run", steps=1) + options) == 0
    assert (tmp_path / "run/weights/gendr-pix/model_index.json").is_file()
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("tiny")
def test_pix_goes_on_from_an_earlier_pix(tmp_path: Path, photos: Path) -> None:
    family = save_tiny_family(tmp_path / "family")
    words = stage_words("pix", family, photos, tmp_path / "run", steps=1, ema_decay=0, learning_rate=0)
    words += ["--start", str(family / "gendr-pix"), "--finish-crops", "0", "--loop.final-learning-rate", "0"]
    assert main(words) == 0
    before = load_restorer("gendr-pix", family).unet.state_dict()
    after = load_restorer("gendr-pix", tmp_path / "run/weights").unet.state_dict()
    assert all(torch.allclose(after[name], before[name], atol=1e-3) for name in before)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("stage", "missing", "message"),
    [
        ("adc", "--teacher", "pass --teacher with the folder or hub id"),
        ("pix", "--adc", "pass --adc with the folder or hub id"),
        ("teacher", "--autoencoder", "pass --autoencoder with the folder or hub id"),
        ("adc", "--data.folder", "pass --data.folder"),
    ],
)
def test_a_missing_start_is_named(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], stage: str, missing: str, message: str
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    words = stage_words(stage, family, photos, tmp_path / "run", steps=1)
    at = words.index(missing)
    assert main(words[:at] + words[at + 2 :]) == 1
    assert message in capsys.readouterr().err


def test_a_teacher_of_another_family_is_refused(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    words = stage_words("adc", family, photos, tmp_path / "run", steps=1)
    words[words.index("tiny")] = "mini"
    assert main(words) == 1
    assert "of the model family 'tiny', this run trains 'mini'" in capsys.readouterr().err


def test_the_usage_and_an_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "pix" in capsys.readouterr().out
    assert main(["pix", "--preset", "huge"]) == 1 and "no preset 'huge'" in capsys.readouterr().err

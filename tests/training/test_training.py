"""Every stage through its command, for two real steps, each from what the one before has exported."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from gendrpix.models.attention import WindowProcessor
from gendrpix.models.networks import build_autoencoder
from gendrpix.restore.pipelines import load_restorer
from gendrpix.weights.load import load_autoencoder
from tests.helpers.models import NARROW_SD21, save_tiny_family
from tests.helpers.pictures import photo
from tests.helpers.stages import WEIGHTS, assert_same, checkpoint_state, make_photos, stage_words
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


def test_the_full_sizes_presets_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real steps of each `sd21` preset, all its terms on, in bfloat16 with checkpointing; only narrower."""
    from accelerate.state import AcceleratorState

    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {"sd21": NARROW_SD21})
    photos = make_photos(tmp_path / "photos", side=96)
    build_autoencoder(NARROW_SD21).save_pretrained(tmp_path / "vae")
    starts = {
        "base": ["--autoencoder", "vae"],
        "teacher": ["--autoencoder", "vae", "--base", "base/weights/base"],
        "adc": ["--teacher", "teacher/weights/gendr"],
        "pix": ["--teacher", "teacher/weights/gendr", "--adc", "adc/weights/gendr-adc", "--perceptual", "encoder"],
    }
    loop = {"steps": 2, "batch": 2, "checkpoint-every": 2, "sample-every": 2, "tracker": "none"}
    for stage, start in starts.items():
        words = [stage, "--preset", "sd21", "--run", str(tmp_path / stage), "--data.folder", str(photos)]
        words += ["--data.crop-px", "64", "--data.num-workers", "0"]
        words += [word for name, value in loop.items() for word in (f"--loop.{name}", str(value))]
        places = [word if word.startswith("--") or word == "encoder" else str(tmp_path / word) for word in start]
        AcceleratorState._reset_state(reset_partial_state=True)
        assert main(words + places) == 0, capsys.readouterr().err
        told = json.loads((tmp_path / stage / "config.json").read_text())
        assert (told["loop"]["mixed_precision"], told["loop"]["gradient_checkpointing"]) == ("bf16", True)
        assert (tmp_path / stage / "checkpoints/step-00000002/model.safetensors").is_file()
    AcceleratorState._reset_state(reset_partial_state=True)
    kept = {file.name for file in (tmp_path / "teacher/checkpoints/step-00000002").iterdir()}
    assert {f"custom_checkpoint_{n}.pkl" for n in range(5)} <= kept, "average, heads, fake scores, two optimisers"
    restored = load_restorer("gendr-pix", tmp_path / "pix/weights")(photo(16, 12), scale=4.0, output_type="pt").images
    assert restored.shape == (1, 3, 48, 64) and restored.isfinite().all()


@pytest.mark.usefixtures("tiny")
def test_stages_train_on_tar_shards(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A streamed run fits, trains, resumes and finishes as one on a folder does; the folder is held out."""
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for file in sorted(make_photos(tmp_path / "more", count=5).iterdir()):
            tar.add(file, arcname=file.name)
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    stream = ["--data.stream", str(tmp_path / "photos.tar"), "--target-cache", str(tmp_path / "targets")]
    options = {"steps": 4, "checkpoint_every": 2, "keep_checkpoints": 9, "sample_every": 4}
    words = stage_words("pix", family, photos, tmp_path / "whole", **options)
    assert main(words + stream) == 0, capsys.readouterr().err
    assert list((tmp_path / "targets").glob("*/*.safetensors"))
    (tmp_path / "halves").mkdir()
    shutil.copytree(tmp_path / "whole/checkpoints/step-00000002", tmp_path / "halves/checkpoints/step-00000002")
    assert main(stage_words("pix", family, photos, tmp_path / "halves", **options) + stream) == 0
    last = "checkpoints/step-00000004"
    assert_same(checkpoint_state(tmp_path / "halves" / last), checkpoint_state(tmp_path / "whole" / last))
    without_folder = [word for word in words if word not in ("--data.folder", str(photos))]
    assert main(without_folder + stream) == 1
    assert "pass --data.folder with a few that it does not hold" in capsys.readouterr().err


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
def test_a_decoder_can_learn_alone_and_the_latents_stay(tmp_path: Path, photos: Path) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    words = stage_words("autoencoder", family, photos, tmp_path / "run", steps=2)
    words += ["--start", str(family / "autoencoder"), "--decoder-only", "--data.degradation", "photo"]
    assert main(words) == 0
    before, after = (load_autoencoder(at) for at in (family / "autoencoder", tmp_path / "run/weights/autoencoder"))
    assert after.config.scaling_factor == before.config.scaling_factor
    first, last = ({name: one.half() for name, one in model.named_parameters()} for model in (before, after))
    changed = {name.split(".")[0] for name, one in last.items() if not torch.equal(one, first[name])}
    assert changed == {"decoder"}


@pytest.mark.usefixtures("tiny")
def test_a_decoder_alone_needs_an_encoder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = stage_words("autoencoder", tmp_path, photos, tmp_path / "run", steps=1)
    with pytest.raises(SystemExit):
        main([*words, "--decoder-only"])
    assert "pass --start with an autoencoder" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.usefixtures("tiny")
def test_a_discriminator_on_the_starts_features(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc", "gendr-pix"))
    words = [*stage_words("pix", family, photos, tmp_path / "run", steps=1), "--backbone", "start"]
    with pytest.raises(SystemExit):
        main(words)
    assert "nothing is started from" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert main([*words, "--start", str(family / "gendr-pix")]) == 0
    assert (tmp_path / "run/weights/gendr-pix/model_index.json").is_file()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "options",
    [
        ["--backbone", "none"],
        ["--backbone", "gendr", "--no-randpad", "--perceptual-zoom", "0.5", "1.0", "--padded-probability", "1"],
        ["--perceptual", "none", "--mfs-weight", "0", "--real", "teacher"],
        ["--distill-weight", "0", "--loop.ema-decay", "0"],
        ["--mfs-sided", "above", "--harmonics-weight", "1", "--shift-weight", "1", "--loop.mixed-precision", "bf16"],
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
def test_what_the_negative_embedding_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own input, or, without the perceptual term, the truth."""
    targets: list[torch.Tensor] = []
    judged: list[tuple[torch.Tensor, torch.Tensor]] = []

    def l1(y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        targets.append(target.detach())
        return (y - target).abs().mean()

    def perceptual(y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        judged.append((y.detach(), target))
        return (y - target).square().mean()

    monkeypatch.setattr("training.stages.pix.l1_loss", l1)
    monkeypatch.setattr("training.stages.pix.build_perceptual_loss", lambda *_: perceptual)
    family, photos = save_tiny_family(tmp_path / "family"), make_photos(tmp_path / "photos", side=64)
    for run, share, kind in (("none", "0", "input"), ("input", "0.999", "input"), ("truth", "0.999", "truth")):
        words = stage_words("pix", family, photos, tmp_path / run, steps=1)
        words += ["--start", str(family / "gendr-pix"), "--backbone", "none", "--distill-weight", "1"]
        words += ["--data.negative-probability", share, "--negative-target", kind, "--no-randpad"]
        assert main([*words, "--finish-crops", "0", "--padded-probability", "0", "--real", "truth"]) == 0
    truths, inputs, again = targets[1::2]
    assert torch.equal(truths, again) and (truths - inputs).abs().mean() > 0.01
    differences = [(y - target).abs().max() for y, target in judged]
    assert differences[0] > 0 and differences[1] > 0 and differences[2] == 0
    taught, taught_input, taught_truth = targets[::2]  # the distance to the teacher's picture
    assert not torch.equal(taught, truths) and torch.equal(taught_input, inputs) and torch.equal(taught_truth, truths)


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
@pytest.mark.parametrize(("stage", "crop_px", "windowed"), [("adc", 96, True), ("pix", 96, True), ("pix", 64, False)])
def test_large_crops_are_seen_in_the_shipped_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, crop_px: int, windowed: bool
) -> None:
    """The tiny family's windows are 8 positions wide, 64 pixels."""
    seen = []
    cut = WindowProcessor.attend
    monkeypatch.setattr(WindowProcessor, "attend", lambda self, *given: (seen.append(1), cut(self, *given))[1])
    family, photos = save_tiny_family(tmp_path / "family"), make_photos(tmp_path / "photos", side=200)
    words = stage_words(stage, family, photos, tmp_path / "run", steps=1)
    words += ["--data.crop-px", str(crop_px), *(["--padded-probability", "0"] if stage == "pix" else [])]
    assert main(words) == 0
    assert bool(seen) == windowed


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

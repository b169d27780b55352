"""Stage `base`: surgery on a Stable Diffusion in diffusers' layout, the objective, refusals; two real steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from gendrpix.models.networks import build_unet, signal_and_noise
from gendrpix.restore.pipelines import load_restorer
from gendrpix.weights.source import MIRRORS, encode_prompts
from tests.helpers.models import TINY, save_tiny_family
from tests.helpers.sources import SCHEDULE, save_source
from tests.helpers.stages import checkpoint_state, stage_words
from training.__main__ import main
from training.losses.score_distillation import Denoiser, draw_noise


def run_base(tmp_path: Path, photos: Path, *options: str, steps: int = 2, **loop: Any) -> int:
    family = save_tiny_family(tmp_path / "family", ())
    words = stage_words("base", family, photos, tmp_path / "run", steps=steps, checkpoint_every=1, **loop)
    return main([*words, *options])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("prediction", "form"), [("epsilon", "epsilon"), ("v_prediction", "v")])
def test_two_steps_from_a_source(tmp_path: Path, photos: Path, prediction: str, form: str) -> None:
    source = save_source(tmp_path / "source", prediction=prediction)
    texts = ("sharp", "blurry")
    options = ["--source", str(source), "--positive-prompt", texts[0], "--negative-prompt", texts[1]]
    assert run_base(tmp_path, photos, *options, sample_every=2, learning_rate=0.1) == 0
    assert (tmp_path / "run/samples/000002.png").is_file()
    base = load_restorer("gendr", tmp_path / "run/weights/base")
    assert (base.config.form, base.unet.config.in_channels, base.unet.config.out_channels) == (form, 4, 4)
    torch.testing.assert_close(base.prompts, encode_prompts(str(source), texts), atol=1e-2, rtol=1e-2)
    assert not torch.equal(base.prompts[0], base.prompts[1])


@pytest.mark.usefixtures("tiny")
def test_only_the_ends_are_new_and_everything_is_trained(tmp_path: Path, photos: Path) -> None:
    source = save_source(tmp_path / "source")
    old = UNet2DConditionModel.from_pretrained(source, subfolder="unet").state_dict()
    rate = {"learning_rate": 0, "final_learning_rate": 0, "ema_decay": 0}
    assert run_base(tmp_path, photos, "--source", str(source), **rate) == 0
    same = checkpoint_state(tmp_path / "run/checkpoints/step-00000002")["model.safetensors"]
    changed = {name for name in old if old[name].shape != same[name].shape or not torch.equal(old[name], same[name])}
    assert changed == {"conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_out.bias"}
    assert run_base(tmp_path / "trained", photos, "--source", str(source), learning_rate=0.1) == 0
    states = [checkpoint_state(tmp_path / f"trained/run/checkpoints/step-0000000{n}") for n in (1, 2)]
    first, second = (state["model.safetensors"] for state in states)
    assert sum(torch.equal(first[name], second[name]) for name in first) < 3  # a key's bias has no gradient


@pytest.mark.usefixtures("tiny")
def test_from_random_weights_and_on_to_the_teacher(tmp_path: Path, photos: Path) -> None:
    assert run_base(tmp_path, photos, "--prediction", "v_prediction") == 0
    family, base = tmp_path / "family", tmp_path / "run/weights/base"
    words = stage_words("teacher", family, photos, tmp_path / "teacher", steps=2, sample_every=2)
    assert main([*words, "--base", str(base), "--score", "cid", "--backbone", "base"]) == 0
    assert load_restorer("gendr", tmp_path / "teacher/weights").config.form == "v"


@pytest.mark.usefixtures("tiny")
def test_training_lowers_the_loss(tmp_path: Path, photos: Path) -> None:
    """On the same noise and pictures: the objective itself, before and after."""
    assert run_base(tmp_path, photos, steps=60, learning_rate=5e-3, warmup_steps=1, ema_decay=0) == 0
    z = torch.randn(8, 4, 4, 4)
    noise, times = draw_noise(z, range(8), 9, 9)
    torch.manual_seed(0)
    before = Denoiser(build_unet(TINY, 4, 4), "epsilon")
    trained = load_restorer("gendr", tmp_path / "run/weights/base")
    after = Denoiser(trained.unet, trained.config.form)
    with torch.no_grad():
        losses = [float(one.denoising_loss(z, noise, times, trained.prompts[:1])) for one in (before, after)]
    assert losses[1] < 0.9 * losses[0]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": "sample"}, "predicts 'sample'; expected one of epsilon, v_prediction"),
        ({"beta_schedule": "linear"}, "another noise schedule"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    source = save_source(tmp_path / "source", **changes)
    assert run_base(tmp_path, photos, "--source", str(source)) == 1
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_another_geometry_and_a_missing_source_are_named(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_source(tmp_path / "source")
    config = source / "unet/config.json"
    settings = json.loads(config.read_text())
    UNet2DConditionModel.from_config({**settings, "layers_per_block": 2}).save_pretrained(source / "unet")
    assert run_base(tmp_path, photos, "--source", str(source)) == 1
    assert "UNet has layers_per_block 2, and the model family tiny 1" in capsys.readouterr().err
    assert run_base(tmp_path / "other", photos, "--source", "nobody/no-such-model") == 1
    message = capsys.readouterr().err
    assert "No scheduler in 'nobody/no-such-model'" in message and all(mirror in message for mirror in MIRRORS)


def test_the_schedule_is_diffusers_own() -> None:
    kept = DDPMScheduler(**SCHEDULE).alphas_cumprod
    for time in (0, 1, 500, 999):
        assert signal_and_noise(time)[0] ** 2 == pytest.approx(float(kept[time]), rel=1e-4)

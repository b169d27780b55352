"""Score distillation: every term against a formula worked out by hand, the noise, the networks, the teacher's stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from gendrpix.models.networks import build_unet, predict, signal_and_noise
from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import TINY, save_tiny_family, tiny_pipeline
from tests.helpers.stages import assert_same, checkpoint_state, stage_words
from training.__main__ import main
from training.config import TeacherConfig
from training.losses.score_distillation import (
    Denoiser,
    ScoreDistillation,
    TrainedScore,
    cid_loss,
    diffuse,
    draw_noise,
    sid_loss,
    vsd_loss,
)
from training.presets import PRESETS

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def maps(seed: int, count: int = 3) -> Tensor:
    return torch.randn(count, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


# Terms ----------------------------------------------------------------------------------------------------------------


def test_vsd_has_the_gradient_of_the_paper() -> None:
    z, real, fake = maps(0).requires_grad_(), maps(1), maps(2)
    vsd_loss(z, real, fake).backward()
    z_, real_, fake_ = (x.detach().numpy().astype(np.float64) for x in (z, real, fake))
    weight = 1 / np.abs(z_ - real_).mean(axis=(1, 2, 3), keepdims=True)
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), weight * (fake_ - real_) / z_.size, rtol=1e-4, atol=1e-8)


def test_vsd_is_zero_where_both_networks_agree() -> None:
    z, both = maps(0).requires_grad_(), maps(1)
    loss = vsd_loss(z, both, both)
    loss.backward()
    assert float(loss.detach()) == 0 and z.grad is not None and not z.grad.any()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.2])
def test_sid_and_cid_equal_their_formulas(alpha: float) -> None:
    z, truth, real, fake = (maps(n) for n in range(4))
    z_, truth_, real_, fake_ = (x.numpy().astype(np.float64) for x in (z, truth, real, fake))
    sid = cid = 0.0
    for n in range(len(z_)):
        apart = (real_ - fake_)[n].ravel()
        weight = 1 / np.abs(z_[n] - real_[n]).mean() / apart.size / len(z_)
        sid += weight * (apart @ (real_ - z_)[n].ravel() - alpha * apart @ apart)
        cid += weight * (apart @ (real_ - truth_)[n].ravel() - alpha * apart @ apart)
    assert float(sid_loss(z, real, fake, alpha)) == pytest.approx(sid, rel=1e-4)
    assert float(cid_loss(z, truth, real, fake, alpha)) == pytest.approx(cid, rel=1e-4)


def test_sid_equals_the_papers_other_arrangement() -> None:
    """(1 - alpha) |d|^2 + <d, f_fake - z>, as SiD's algorithm writes it."""
    z, real, fake = (maps(n, 1) for n in range(3))
    apart = real - fake
    expected = (-0.2 * apart.square() + apart * (fake - z)).mean() / (z - real).abs().mean()
    torch.testing.assert_close(sid_loss(z, real, fake, 1.2), expected)


@pytest.mark.parametrize("term", ["vsd", "sid", "cid"])
def test_a_term_pulls_the_output_to_the_mean_of_a_gaussian(term: str) -> None:
    """Real pictures are N(m, s^2), the student always answers g: both optimal denoisers are known."""
    mean, deviation, given, noise = 0.3, 0.8, 1.5, maps(5, 64)
    z = torch.full_like(noise, given).requires_grad_()
    alpha, sigma = signal_and_noise(400)
    noisy = alpha * z + sigma * noise
    gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
    real, fake = mean + gain * (noisy - alpha * mean), torch.full_like(z, given).detach()
    truth = torch.full_like(z, mean).detach()
    losses: dict[str, Callable[[], Tensor]] = {
        "vsd": lambda: vsd_loss(z, real.detach(), fake),
        "sid": lambda: sid_loss(z, real, fake),
        "cid": lambda: cid_loss(z, truth, real, fake),
    }
    losses[term]().backward()
    assert z.grad is not None and float(z.grad.mean()) > 0, "descent lowers 1.5 towards 0.3"


def test_weights_leave_samples_out() -> None:
    z, truth, real, fake = (maps(n) for n in range(4))
    weights = torch.tensor([1.5, 0.0, 1.5])
    kept = [0, 2]
    for one, all_of_them in (
        (vsd_loss(z, real, fake, weights), vsd_loss(z[kept], real[kept], fake[kept])),
        (cid_loss(z, truth, real, fake, 1, weights), cid_loss(z[kept], truth[kept], real[kept], fake[kept])),
    ):
        torch.testing.assert_close(one, all_of_them)


# Noise and networks ---------------------------------------------------------------------------------------------------


def test_noise_depends_on_seed_sample_and_stream_alone() -> None:
    like = torch.zeros(3, 4, 6, 6)
    noise, times = draw_noise(like, [5, 6, 7], 0, 3, (20, 980))
    alone, time = draw_noise(like[:1], [6], 0, 3, (20, 980))
    assert torch.equal(alone[0], noise[1]) and time == [times[1]]
    for seed, stream in ((1, 3), (0, 4)):
        assert not torch.equal(draw_noise(like, [5, 6, 7], seed, stream)[0], noise)
    many = draw_noise(torch.zeros(2000, 1, 1, 1), range(2000), 0, 3, (20, 30))[1]
    assert set(many) == set(range(20, 30))


@pytest.mark.parametrize(("form", "prediction"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_the_objective_equals_that_of_diffusers(form: str, prediction: str) -> None:
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False, **SCHEDULE)
    unet, prompt = build_unet(TINY, 4, 4).eval(), torch.randn(1, 3, 16)
    z, noise, times = maps(0), maps(1), [10, 500, 900]
    z, noise = (torch.nn.functional.pad(x, (1, 1, 1, 1)) for x in (z, noise))
    noisy = scheduler.add_noise(z, noise, torch.tensor(times))
    torch.testing.assert_close(diffuse(z, noise, times), noisy, atol=1e-5, rtol=1e-5)
    denoiser = Denoiser(unet, form)
    with torch.no_grad():
        output = unet(noisy, torch.tensor(times), prompt.expand(3, -1, -1)).sample
        target = scheduler.get_velocity(z, noise, torch.tensor(times)) if form == "v" else noise
        loss = denoiser.denoising_loss(z, noise, times, prompt)
        torch.testing.assert_close(loss, (output - target).square().mean(), atol=1e-5, rtol=1e-4)
        clean = denoiser.clean(noisy, times, prompt)
        for n, time in enumerate(times):
            expected = scheduler.step(output[n : n + 1], time, noisy[n : n + 1]).pred_original_sample
            torch.testing.assert_close(clean[n : n + 1], expected, atol=1e-3, rtol=1e-3)
        one = predict(unet, noisy[1:2], prompt, timestep=500, form=form)
        torch.testing.assert_close(clean[1:2], one, atol=1e-4, rtol=1e-4)


def test_a_network_that_predicts_neither_noise_nor_velocity_is_refused() -> None:
    with pytest.raises(ValueError, match="these weights have 'direct'"):
        Denoiser(build_unet(TINY, 4, 4), "direct")


@pytest.mark.parametrize("rank", [0, 4])
def test_the_fake_score_network_starts_as_the_base_and_trains_what_it_should(rank: int) -> None:
    base = build_unet(TINY, 4, 4).eval().requires_grad_(False)
    fake = TrainedScore(base, "epsilon", rank)
    noisy, prompt = torch.randn(2, 4, 8, 8), torch.randn(1, 3, 16)
    before = Denoiser(base, "epsilon").clean(noisy, [10, 900], prompt)
    torch.testing.assert_close(fake.clean(noisy, [10, 900], prompt), before, atol=1e-4, rtol=1e-4)
    assert all(("lora" in name) == bool(rank) for name in fake.trained)
    fake.denoising_loss(noisy, torch.randn_like(noisy), [10, 900], prompt).backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in fake.trained.values())
    assert all(weight.grad is None for weight in base.parameters())
    other = TrainedScore(base, "epsilon", rank)
    for weight in fake.trained.values():
        weight.data += 0.1
    other.load_state_dict(fake.state_dict())
    assert all(torch.equal(weight, fake.trained[name]) for name, weight in other.trained.items())
    with pytest.raises(ValueError, match="lora_rank"):
        other.load_state_dict({})


def test_adapters_count_alpha_over_rank_times() -> None:
    base = build_unet(TINY, 4, 4).eval().requires_grad_(False)
    scaled = TrainedScore(base, "epsilon", 4, 8)
    adapted = [module.scaling for module in scaled.unet.modules() if hasattr(module, "lora_A")]
    assert adapted and {scale for one in adapted for scale in one.values()} == {2.0}


def test_guidance_and_the_trained_real_network() -> None:
    """The guided real score against its definition; the real network learns the truth's latents, its base does not."""
    base = build_unet(TINY, 4, 4).eval().requires_grad_(False)
    prompts = torch.randn(2, 3, 16)
    config = dataclasses.replace(
        PRESETS["teacher"]["mini"], score="cid", score_guidance=3.0, train_real=True, lora_rank=2, score_alpha=0.5
    )
    assert isinstance(config, TeacherConfig)
    scores = ScoreDistillation(config, base, prompts, "epsilon")
    z, truth, noise = (torch.randn(2, 4, 8, 8) for _ in range(3))
    noisy = diffuse(z, noise, [100, 700])
    plain, negative = (scores.real.clean(noisy, [100, 700], prompts[row : row + 1]) for row in (0, 1))
    fake = scores.fake.clean(noisy, [100, 700], prompts[:1])
    expected = cid_loss(z, truth, negative + 3 * (plain - negative), fake, 0.5)
    torch.testing.assert_close(scores.at(z, truth, [100, 700], noise), expected, atol=1e-5, rtol=1e-4)
    assert len(scores.states) == 4 and scores.learning_real is not None
    scores.follow_truth(truth, [0, 1], torch.ones(2)).backward()
    assert any(one.grad is not None and one.grad.any() for one in scores.learning_real.trained.values())
    assert all(one.grad is None for one in (*scores.fake.trained.values(), *base.parameters()))


# The stage ------------------------------------------------------------------------------------------------------------


def save_base(folder: Path) -> Path:
    """A base of the tiny family beside its autoencoder."""
    family = save_tiny_family(folder, ())
    tiny_pipeline("gendr", form="epsilon").save_pretrained(folder / "base", shared_vae="../autoencoder")
    return family


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("score", ["vsd", "sid", "cid"])
def test_the_teacher_with_all_its_terms(tmp_path: Path, photos: Path, score: str) -> None:
    family = save_base(tmp_path / "family")
    run = tmp_path / "run"
    words = stage_words("teacher", family, photos, run, steps=2, checkpoint_every=1, sample_every=2)
    words += ["--base", str(family / "base"), "--backbone", "base", "--score", score, "--lora-rank", "2"]
    words += ["--train-real", "--score-guidance", "2", "--alpha-bar", "0.5", "--timestep", "400"]
    assert main(words) == 0
    states = [checkpoint_state(run / f"checkpoints/step-0000000{n}") for n in (1, 2)]
    assert set(states[0]) == {
        "model.safetensors",
        "optimizer.bin",
        "custom_checkpoint_0.pkl",  # average
        "custom_checkpoint_1.pkl",  # heads
        "custom_checkpoint_2.pkl",  # their optimiser
        "custom_checkpoint_3.pkl",  # fake-score network: adapters alone
        "custom_checkpoint_4.pkl",  # real-score network
        "custom_checkpoint_5.pkl",  # their optimisers
        "custom_checkpoint_6.pkl",
    }
    assert all("lora" in name for name in states[0]["custom_checkpoint_3.pkl"])
    for file in states[0]:
        with pytest.raises(AssertionError):
            assert_same(states[0][file], states[1][file])
    made = load_restorer("gendr", run / "weights")
    assert (made.config.timestep, made.alpha_bar) == (400, 0.5)
    assert made.config.form == "epsilon" and isinstance(made.unet, UNet2DConditionModel)
    torch.testing.assert_close(made.prompts, load_restorer("gendr", family / "base").prompts, atol=1e-2, rtol=1e-2)


@pytest.mark.usefixtures("tiny")
def test_the_teacher_resumes_to_the_last_bit(tmp_path: Path, photos: Path) -> None:
    family = save_base(tmp_path / "family")
    options = ["--base", str(family / "base"), "--backbone", "base", "--score", "cid", "--lora-rank", "2"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    settings = {"steps": 4, "checkpoint_every": 2, "keep_checkpoints": 9}
    assert main(stage_words("teacher", family, photos, whole, **settings) + options) == 0
    (halves / "checkpoints").mkdir(parents=True)
    (whole / "checkpoints/step-00000002").rename(halves / "checkpoints/step-00000002")
    assert main(stage_words("teacher", family, photos, halves, **settings) + options) == 0
    last = "checkpoints/step-00000004"
    assert_same(checkpoint_state(halves / last), checkpoint_state(whole / last))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("options", [["--score", "cid"], ["--backbone", "base"]])
def test_terms_that_need_a_base_say_so(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    family = save_tiny_family(tmp_path / "family", ())
    assert main(stage_words("teacher", family, photos, tmp_path / "run", steps=1) + options) == 1
    message = capsys.readouterr().err
    assert f"{' '.join(options)} needs a base model" in message and "pass --base" in message

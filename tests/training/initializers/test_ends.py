"""GenDR-Adc's start from teachers of every form: how near it is to what the teacher gives."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from gendrpix.image.resize import resize
from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import predict, signal_and_noise
from gendrpix.restore.pipelines import GenDRPipeline
from gendrpix.specs import Form
from tests.helpers.models import TINY, save_tiny_family, tiny_pipeline
from tests.helpers.stages import stage_words
from training.__main__ import main
from training.initializers.ends import begin_adc, fit_adc
from training.initializers.identity import start_as_identity
from training.initializers.least_squares import fit_conv_in


def smooth_batches(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pictures = [resize(torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1, 32, 32) for _ in range(count)]
    return [{"lq": x, "negative": torch.tensor([True, False, False, False])} for x in pictures]


@torch.no_grad()
def teacher_of(form: Form) -> GenDRPipeline:
    """GenDRs of all forms that give the same latent, the input's with something added: its output alone differs."""
    teacher = tiny_pipeline("gendr", form=form)
    assert isinstance(teacher, GenDRPipeline)
    added = [0.5 * parameter.clone() for parameter in teacher.unet.conv_out.parameters()]
    start_as_identity(teacher.unet)
    alpha, sigma = signal_and_noise(TINY.timestep)
    of_input, of_latent = {
        "epsilon": (1 / sigma, -alpha / sigma),
        "v": (alpha / sigma, -1 / sigma),
        "residual": (-1.0, 1.0),
        "direct": (0.0, 1.0),
    }[form]
    for identity, more in zip(teacher.unet.conv_out.parameters(), added, strict=True):
        identity.copy_(of_input * identity + of_latent * (identity + more))
    return teacher


@pytest.mark.parametrize("form", ["epsilon", "v", "residual", "direct"])
@torch.no_grad()
def test_the_start_is_near_a_teacher_of_any_form(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearer than E(x), and than the teacher's weights read as they are; a direct teacher's are near already."""
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {TINY.name: TINY})
    teacher, batches = teacher_of(form), smooth_batches(24, seed=0)
    codec, grid, x = LatentCodec(teacher.vae), PixelCodec(), smooth_batches(1, seed=1)[0]["lq"]

    def made(unet: torch.nn.Module) -> torch.Tensor:
        return predict(unet, grid.encode(x), teacher.prompts[:1], timestep=TINY.timestep, form="direct")

    def distance(z: torch.Tensor) -> float:
        return float((z - wanted).abs().mean())

    z = codec.encode(x)
    wanted = predict(teacher.unet, z, teacher.prompts[:1], timestep=TINY.timestep, form=form)
    before = begin_adc(teacher, TINY)
    before.conv_out.load_state_dict(teacher.unet.conv_out.state_dict())
    fit_conv_in(before, ((grid.encode(b["lq"]), teacher.unet.conv_in(codec.encode(b["lq"]))) for b in batches))
    student = begin_adc(teacher, TINY)
    fit_adc(student, teacher, lambda task: iter(batches))
    assert student.training and all(p.requires_grad for p in student.parameters())
    fitted = distance(made(student))
    assert fitted < 0.5 * distance(z)
    if form == "direct":
        assert fitted <= distance(made(before))
    else:
        assert fitted < 0.5 * distance(made(before))


@pytest.mark.usefixtures("tiny")
def test_the_stage_fits_both_ends_and_says_so(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    with caplog.at_level(logging.INFO):
        assert main(stage_words("adc", family, photos, tmp_path / "run", steps=1)) == 0
    told = [record.getMessage() for record in caplog.records if "its ends give" in record.getMessage()]
    assert len(told) == 1 and "% of the teacher's features and" in told[0]
    assert "adc: conv_out" in capsys.readouterr().err, "a progress bar"

"""Representation alignment: its formula, what it moves, two steps and a resume of `base` with it, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from gendrpix.models.networks import build_unet
from tests.helpers.models import TINY, save_tiny_family
from tests.helpers.stages import assert_same, checkpoint_state, stage_words
from training.__main__ import main
from training.losses.alignment import DEVIATION, MEAN, Alignment

CPU = torch.device("cpu")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    torch.manual_seed(3)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(tmp_path / "encoder")
    return str(tmp_path / "encoder")


def open_alignment(encoder: str) -> tuple[Alignment, torch.nn.Module]:
    torch.manual_seed(0)
    unet = build_unet(TINY, 4, 4)
    return Alignment(encoder, unet, CPU, 1e-3), unet


def test_the_loss_is_minus_the_mean_cosine(encoder: str) -> None:
    alignment, _ = open_alignment(encoder)
    features, tokens = torch.randn(2, 32, 2, 2), torch.randn(2, 12, 4, 4)
    projected = alignment.projector(features).detach().numpy()
    wanted = tokens.numpy().reshape(2, 12, 2, 2, 2, 2).mean(axis=(3, 5))
    norms = np.linalg.norm(projected, axis=1) * np.linalg.norm(wanted, axis=1)
    expected = -np.mean((projected * wanted).sum(axis=1) / norms)
    assert alignment.loss(features, tokens).item() == pytest.approx(expected, rel=1e-5)


def test_tokens_are_the_encoders_own_in_their_places(encoder: str) -> None:
    alignment, _ = open_alignment(encoder)
    pixels = torch.rand(1, 3, 28, 28) * 2 - 1
    tokens = alignment.encode(pixels)
    scaled = (pixels / 2 + 0.5 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    states = Dinov2Model.from_pretrained(encoder).eval()(scaled).last_hidden_state
    assert tokens.shape == (1, 12, 4, 4) and states.shape == (1, 17, 12)
    torch.testing.assert_close(tokens[0, :, 1, 2], states[0, 1 + 4 + 2], atol=1e-4, rtol=1e-4)


def test_its_gradient_reaches_the_first_down_block_alone(encoder: str) -> None:
    alignment, unet = open_alignment(encoder)
    unet(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 3, 16))
    alignment.loss(alignment.features, alignment.encode(torch.rand(1, 3, 32, 32))).backward()
    assert unet.conv_in.weight.grad.abs().max() > 0 and unet.down_blocks[1].resnets[0].conv1.weight.grad is None
    assert alignment.features.shape[1] == 32
    assert all(weight.grad is None for weight in alignment.encoder.parameters())


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("stage", ["base", "teacher"])
def test_a_stage_with_alignment_resumes_to_the_last_bit(
    tmp_path: Path, photos: Path, encoder: str, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    family = save_tiny_family(tmp_path / "family", ())
    extra = ["--alignment-weight", "0.5", "--alignment-encoder", encoder]
    options = {"steps": 4, "checkpoint_every": 2, "keep_checkpoints": 9}
    assert main(stage_words(stage, family, photos, tmp_path / "whole", **options) + extra) == 0, capsys.readouterr().err
    (tmp_path / "halves/checkpoints").mkdir(parents=True)
    middle, last = "checkpoints/step-00000002", "checkpoints/step-00000004"
    start = checkpoint_state(tmp_path / "whole" / middle)
    (tmp_path / "whole" / middle).rename(tmp_path / "halves" / middle)
    assert main(stage_words(stage, family, photos, tmp_path / "halves", **options) + extra) == 0
    end = checkpoint_state(tmp_path / "whole" / last)
    assert_same(checkpoint_state(tmp_path / "halves" / last), end)
    with pytest.raises(AssertionError):
        assert_same(start["custom_checkpoint_1.pkl"], end["custom_checkpoint_1.pkl"])  # the projector


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "needs an image encoder: pass --alignment-encoder"),
        (["--alignment-encoder", "nowhere"], "No image encoder at 'nowhere'"),
    ],
)
def test_a_missing_encoder_is_named(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    family = save_tiny_family(tmp_path / "family", ())
    words = stage_words("base", family, photos, tmp_path / "run", steps=1)
    assert main([*words, "--alignment-weight", "0.5", *options]) == 1
    assert message in capsys.readouterr().err

"""The finest level alone, and the UNet that its weights are written into."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gendrpix.models.codecs import PixelCodec
from gendrpix.models.networks import build_unet, predict
from gendrpix.restore.pipelines import load_restorer
from gendrpix.specs import MODEL_SPECS, ModelSpec
from tests.helpers.models import EVEN, TINY
from tests.helpers.stages import assert_same, stage_words
from training.__main__ import main
from training.initializers.subpatch import Finest, read_from, share_gradients, write_into

ENDS = (192, 192)


def random_finest(spec: ModelSpec) -> Finest:
    torch.manual_seed(0)
    finest = Finest(build_unet(spec, *ENDS)).eval()
    for parameter in finest.parameters():
        nn.init.normal_(parameter, std=0.1)
    return finest.requires_grad_(False)


@pytest.mark.parametrize("spec", [EVEN, MODEL_SPECS["mini"]], ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_the_unet_computes_what_its_finest_level_was_taught(spec: ModelSpec, size: tuple[int, int]) -> None:
    finest, unet, codec = random_finest(spec), build_unet(spec, *ENDS).eval(), PixelCodec()
    write_into(finest, unet)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    prompts = torch.randn(1, spec.prompt_tokens, spec.prompt_channels)
    with torch.no_grad():
        expected = finest(x)
        written = codec.decode(predict(unet, codec.encode(x), prompts, timestep=500, form="residual"))
    assert (expected - x).abs().mean() > 0.05
    torch.testing.assert_close(written, expected, atol=2e-5, rtol=0)


def test_what_has_no_say_yet_can_learn_to_have_one() -> None:
    unet, codec = build_unet(EVEN, *ENDS), PixelCodec()
    write_into(random_finest(EVEN), unet)
    x, prompts = torch.rand(1, 3, 64, 64), torch.randn(1, EVEN.prompt_tokens, EVEN.prompt_channels)
    for _ in range(2):  # the deeper levels learn as soon as they are heard
        predict(unet, codec.encode(x), prompts, timestep=500, form="residual").square().mean().backward()
        torch.optim.SGD(unet.parameters(), lr=0.01).step()
    idle = [name for name, p in unet.named_parameters() if not p.grad.abs().sum() > 0]
    assert all("time_emb" in name for name in idle), idle


def test_shared_weights_stay_shared_while_all_is_trained() -> None:
    unet, codec, again = build_unet(EVEN, *ENDS), PixelCodec(), Finest(build_unet(EVEN, *ENDS))
    finest = random_finest(EVEN)
    write_into(finest, unet)
    share_gradients(unet)
    x, prompts = torch.rand(1, 3, 64, 64), torch.randn(1, EVEN.prompt_tokens, EVEN.prompt_channels)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        predict(unet, codec.encode(x), prompts, timestep=500, form="residual").square().mean().backward()
        optimizer.step()
    read_from(again, unet)
    learnt = build_unet(EVEN, *ENDS)
    write_into(again, learnt)
    for name in ("conv_in", "conv_out", "down_blocks.0.resnets.1.conv2", "up_blocks.1.resnets.1.norm1"):
        torch.testing.assert_close(unet.get_submodule(name).weight, learnt.get_submodule(name).weight)
    assert (again.conv_in.weight - finest.conv_in.weight).abs().mean() > 1e-4


def test_what_was_written_can_be_read_again() -> None:
    finest, unet, again = random_finest(EVEN), build_unet(EVEN, *ENDS), Finest(build_unet(EVEN, *ENDS))
    write_into(finest, unet)
    read_from(again, unet)
    torch.testing.assert_close(dict(again.state_dict()), dict(finest.state_dict()))


def test_a_network_begins_as_the_identity() -> None:
    x = torch.rand(1, 3, 32, 40) * 2 - 1
    assert torch.equal(Finest(build_unet(EVEN, *ENDS))(x), x)


def test_weights_are_shared_between_the_quarters_of_a_patch() -> None:
    """A picture moved by 4 pixels gives the result moved by 4 pixels, far from its borders, which are gray here."""
    finest = random_finest(EVEN)
    inner = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    here, moved = (finest(F.pad(inner, (left, 128 - left, 64, 64)))[..., 64:96, :] for left in (64, 68))
    torch.testing.assert_close(here[..., 64:96], moved[..., 68:100], atol=1e-4, rtol=0)


def test_groups_that_mix_two_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="32 channels on the finest level, 64 from the next one and 8 groups"):
        Finest(build_unet(TINY, *ENDS))


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
def test_a_dry_run_counts_the_small_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finest", "--preset", "mini", "--model", EVEN.name, "--dry-run", "--run", str(tmp_path)]) == 0
    count = sum(p.numel() for p in Finest(build_unet(EVEN, *ENDS)).parameters())
    assert f"student {count / 1e6:15.2f} M" in capsys.readouterr().out


def test_a_family_whose_pix_does_not_add_to_its_input_is_refused(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    direct = dataclasses.replace(EVEN, forms={**EVEN.forms, "gendr-pix": "direct"})
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {EVEN.name: direct})
    words = [*stage_words("finest", tmp_path, photos, tmp_path / "run", steps=1), "--model", EVEN.name]
    assert main(words) == 1
    assert "has the form 'direct'; expected residual" in capsys.readouterr().err

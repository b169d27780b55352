"""GenDR begun with the UNet of a GenDR-Pix: what it makes of latents, what it keeps, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gendrpix.image.resize import resize
from gendrpix.models.codecs import LatentCodec
from gendrpix.restore.pipelines import GenDRPixPipeline, load_restorer
from tests.helpers.models import save_tiny_family, tiny_autoencoder, tiny_pipeline
from tests.helpers.stages import stage_words
from training.__main__ import main
from training.initializers.transplant import take_body


@torch.no_grad()
def test_the_latents_are_those_of_what_pix_makes() -> None:
    pix = tiny_pipeline("gendr-pix", form="residual")
    assert isinstance(pix, GenDRPixPipeline)
    codec = LatentCodec(tiny_autoencoder())
    generator = torch.Generator().manual_seed(0)
    batches = [resize(torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1, 32, 32) for _ in range(24)]
    unet = take_body(pix, codec, lambda task: [{"lq": x} for x in batches])
    z, wanted = codec.encode(batches[0]), codec.encode(pix.restore(batches[0]))
    made = unet(z, pix.config.timestep, pix.prompts[:1].expand(len(z), -1, -1)).sample
    assert (made - wanted).square().mean() < 0.4 * (z - wanted).square().mean()
    assert unet.conv_in.in_channels == unet.conv_out.out_channels == z.shape[1]
    assert torch.equal(unet.mid_block.resnets[0].conv1.weight, pix.unet.mid_block.resnets[0].conv1.weight)
    assert pix.unet.conv_in.in_channels == 192, "what it was taken from stays as it is"


@pytest.mark.usefixtures("tiny")
def test_a_teacher_begins_with_it_and_goes_on_after_a_stop(tmp_path: Path, photos: Path) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-pix"))
    words = stage_words("teacher", family, photos, tmp_path / "run", steps=2, checkpoint_every=1)
    words += ["--body", str(family / "gendr-pix"), "--fit-crops", "4"]
    assert main(words) == 0
    first = load_restorer("gendr", tmp_path / "run/weights")
    assert first.config.form == "direct"
    assert torch.equal(first.prompts, load_restorer("gendr-pix", family).prompts)
    (tmp_path / "run/weights").rename(tmp_path / "earlier")
    assert main(words) == 0  # from its last checkpoint: nothing is left to do, nothing is fitted anew
    again = load_restorer("gendr", tmp_path / "run/weights")
    for own, other in zip(again.unet.parameters(), first.unet.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.usefixtures("tiny")
def test_there_is_one_way_to_begin(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*stage_words("teacher", tmp_path, photos, tmp_path / "run", steps=1), "--body", "a"]
    for more, sentence in ((["--start", "b"], "pass one of them"), (["--fit-crops", "0"], "fit_crops is 0")):
        with pytest.raises(SystemExit):
            main(words + more)
        assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())

"""A grey picture comes out grey from every restorer, at every omega, whole and in bands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendrpix.comparison.sweep import BranchBank
from gendrpix.image.color_fix import LUMA, without_chroma
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.restore.streaming import restore_to_png
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import NEG_PAD, POS_PAD
from tests.helpers.models import tiny_pipeline
from tests.helpers.pictures import photo

CASES = [("gendr", None), ("gendr-adc", None), ("gendr-pix", None), ("gendr-pix", 1.0), ("gendr-pix", 1.5)]


def grey_picture() -> Picture:
    return open_picture(photo(24, 16).convert("L"))


def colored(picture: Picture) -> Picture:
    """The same samples, not known to be grey: what the network makes of them keeps its chroma."""
    return Picture(color=picture.color)


@pytest.mark.parametrize(("name", "omega"), CASES)
def test_the_luma_of_the_result_is_kept_and_its_chroma_removed(name: str, omega: float | None) -> None:
    pipeline, picture = tiny_pipeline(name), grey_picture()
    how = {"scale": 2.0, "guidance": omega, "output_type": "pt"}
    found = pipeline(colored(picture), **how).images
    assert (found[:, 0] - found[:, 2]).abs().max() > 0.01  # the network does invent chroma
    kept = pipeline(picture, **how).images
    luma = sum(weight * found[:, n] for n, weight in enumerate(LUMA))
    assert torch.allclose(kept, luma[:, None].expand(kept.shape), atol=1e-5)
    image = pipeline(picture, **{**how, "output_type": "pil"}).images[0]
    assert image.mode == "L" and image.size == (48, 32)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_bands_are_written_as_grey(bits: int, with_alpha: bool, tmp_path: Path) -> None:
    picture = grey_picture()
    if with_alpha:
        picture = Picture(color=picture.color, alpha=torch.full((1, 1, 16, 24), 0.6), grey=True)
    pipeline: RestorerPipeline = tiny_pipeline("gendr-pix")
    settings = RestoreSettings(scale=2, tile=128, bits=bits, guidance=1.5)
    restore_to_png(pipeline, picture, tmp_path / "out.png", settings)
    header = (tmp_path / "out.png").read_bytes()[24:26]
    assert header == bytes([bits, 4 if with_alpha else 0])
    again = open_picture(tmp_path / "out.png")
    whole = pipeline(picture, scale=2.0, guidance=1.5, output_type="pt").images
    assert again.grey and (again.alpha is not None) == with_alpha
    assert torch.allclose(again.color, whole, atol=2.5 / 255 if bits == 8 else 1e-3)


def test_the_tuners_branches_are_grey() -> None:
    pipeline, picture = tiny_pipeline("gendr-pix"), grey_picture()
    bank = BranchBank(pipeline, pipeline.prepare(picture, 2.0), grey=True)
    for omega in (0.0, 1.0, 2.5):
        result = bank.mixed(POS_PAD, NEG_PAD, omega)
        assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 0], result[:, 2])


def test_luma_agrees_with_pillow() -> None:
    color = np.asarray(photo()).astype(np.float32)
    luma = without_chroma(torch.from_numpy(color).permute(2, 0, 1))
    assert np.abs(luma[1].numpy() - np.asarray(Image.fromarray(color.astype(np.uint8)).convert("L"))).max() <= 1

"""The three restorers against a plain implementation of their equations, and their calls from end to end."""

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor

from gendrpix.errors import PictureError
from gendrpix.image.picture import Picture
from gendrpix.models.pattern import without_pattern
from gendrpix.restore.pipelines import PIPELINES, GenDRPixPipeline, RestorerPipeline, load_restorer
from tests.helpers.models import TINY, save_tiny_family, tiny_autoencoder, tiny_pipeline
from tests.helpers.pictures import photo

NAMES = tuple(PIPELINES)
TOLERANCE = 1e-5


def random_pixels(height: int = 16, width: int = 24, batch: int = 1, seed: int = 3) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# The equations, written down once more without the package ------------------------------------------------------


def unshuffle(x: Tensor) -> Tensor:
    """U8 by slicing: channel c * 64 + row * 8 + column."""
    return torch.stack([x[:, c, i::8, j::8] for c in range(3) for i in range(8) for j in range(8)], dim=1)


def shuffle(z: Tensor) -> Tensor:
    """S8 by assignment."""
    y = torch.empty(z.shape[0], 3, z.shape[2] * 8, z.shape[3] * 8)
    for channel in range(192):
        c, i, j = channel // 64, channel // 8 % 8, channel % 8
        y[:, c, i::8, j::8] = z[:, channel]
    return y


def reflect(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode="reflect"))


def alpha_sigma(step: int) -> tuple[float, float]:
    kept = 1.0
    for i in range(step + 1):
        kept *= 1 - (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999) ** 2
    return math.sqrt(kept), math.sqrt(1 - kept)


def plain_network(name: str, pipeline: RestorerPipeline, x: Tensor, prompt: Tensor) -> Tensor:
    """The row of a restorer in the table of the equations; sides of x are multiples of 8."""
    prompts = torch.cat([prompt] * x.shape[0])
    if name == "gendr-pix":
        z = unshuffle(x)
        return shuffle(z + pipeline.unet(z, 500, prompts, return_dict=False)[0])
    if name == "gendr-adc":
        latent = pipeline.unet(unshuffle(x), 500, prompts, return_dict=False)[0]
    else:
        z = pipeline.vae.encode(x).latent * 0.7
        alpha, sigma = alpha_sigma(500)
        latent = (z - sigma * pipeline.unet(z, 500, prompts, return_dict=False)[0]) / alpha
    return pipeline.vae.decode(latent / 0.7).sample


@torch.no_grad()
def plain_restore(name: str, pipeline: RestorerPipeline, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    whole = reflect(x, 0, -height % 8, 0, -width % 8)
    return plain_network(name, pipeline, whole, pipeline.prompts[:1])[..., :height, :width].clamp(-1, 1)


@torch.no_grad()
def plain_padcfg(
    pipeline: RestorerPipeline, x: Tensor, omega: float, pos: tuple[int, int], neg: tuple[int, int]
) -> Tensor:
    height, width = x.shape[-2:]
    whole = reflect(x, 0, -height % 8, 0, -width % 8)
    branches = []
    for (rows, columns), prompt in ((pos, pipeline.prompts[:1]), (neg, pipeline.prompts[1:])):
        padded = reflect(whole, rows, 8 - rows, columns, 8 - columns)
        y = plain_network("gendr-pix", pipeline, padded, prompt)
        branches.append(y[..., rows : rows + height, columns : columns + width])
    return (omega * branches[0] + (1 - omega) * branches[1]).clamp(-1, 1)


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_restorers_agree_with_their_equations(name: str, size: tuple[int, int]) -> None:
    pipeline = tiny_pipeline(name)
    x = random_pixels(*size, batch=2)
    restored = pipeline.restore(x)
    assert restored.shape == x.shape
    assert (restored - plain_restore(name, pipeline, x)).abs().max() <= TOLERANCE
    assert (restored - x).abs().mean() > 0.05  # the network does something,
    assert (restored.abs() < 1).float().mean() > 0.3  # and the clamp does not hide it


@pytest.mark.parametrize(("pos", "neg"), [((4, 4), (3, 3)), ((0, 7), (5, 1)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("omega", [0.5, 1.0, 2.5])
def test_padcfg_agrees_with_its_equation(omega: float, pos: tuple[int, int], neg: tuple[int, int]) -> None:
    pipeline = tiny_pipeline("gendr-pix")
    picture = Picture(color=random_pixels(13, 21))
    restored = pipeline(picture, scale=1, guidance=omega, pos_pad=pos, neg_pad=neg, output_type="pt").images
    assert (restored - plain_padcfg(pipeline, picture.color, omega, pos, neg)).abs().max() <= TOLERANCE


# What follows from them ------------------------------------------------------------------------------------------


def test_omega_1_is_the_padded_positive_branch_and_not_pix_star() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    picture = Picture(color=random_pixels())
    guided = pipeline(picture, scale=1, guidance=1.0, return_branches=True, output_type="pt")
    assert torch.equal(guided.images, guided.positive.clamp(-1, 1))
    star = pipeline(picture, scale=1, output_type="pt").images
    assert torch.equal(star, pipeline.restore(picture.color))
    assert (star - guided.images).abs().mean() > 0.01


def test_equal_pads_and_embeddings_are_one_pass() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    pipeline.prompts = pipeline.prompts[:1].repeat(2, 1, 1)
    x = random_pixels()
    for omega in (0.0, 0.5, 3.0):
        mixed = pipeline(
            Picture(color=x), scale=1, guidance=omega, pos_pad=(2, 5), neg_pad=(2, 5), output_type="pt"
        ).images
        padded = reflect(x, 2, 6, 5, 3)
        one = pipeline.restore(padded)[..., 2:18, 5:29]
        assert (mixed - one).abs().max() <= TOLERANCE


def test_plain_cfg_mixes_the_two_unpadded_passes() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    picture = Picture(color=random_pixels(11, 16))
    out = pipeline(picture, scale=1, guidance=2.0, plain_cfg=True, return_branches=True, output_type="pt")
    assert (out.positive.clamp(-1, 1) - pipeline.restore(picture.color)).abs().max() <= TOLERANCE
    pipeline.prompts = pipeline.prompts.flip(0)
    assert (out.negative.clamp(-1, 1) - pipeline.restore(picture.color)).abs().max() <= TOLERANCE
    assert (out.images - (2 * out.positive - out.negative).clamp(-1, 1)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("plain", [False, True])
def test_batched_and_sequential_branches_agree(plain: bool) -> None:
    pipeline = tiny_pipeline("gendr-pix")
    x = random_pixels(batch=2)
    together = pipeline.restore_branches(x, plain_cfg=plain, batched=True)
    apart = pipeline.restore_branches(x, plain_cfg=plain, batched=False)
    for one, two in zip(together, apart, strict=True):
        assert (one - two).abs().max() <= TOLERANCE


def test_branches_let_omega_move_without_another_pass() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    picture = Picture(color=random_pixels())
    out = pipeline(picture, scale=1, guidance=1.5, return_branches=True, output_type="pt")
    for omega in (0.0, 1.0, 3.0):
        moved = (omega * out.positive + (1 - omega) * out.negative).clamp(-1, 1)
        asked = pipeline(picture, scale=1, guidance=omega, output_type="pt").images
        assert (moved - asked).abs().max() <= TOLERANCE


def test_the_prompt_matters_and_a_batch_does_not() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    x = random_pixels(batch=3)
    together = pipeline.restore(x)
    for i in range(3):
        assert (together[i : i + 1] - pipeline.restore(x[i : i + 1])).abs().max() <= TOLERANCE
    pipeline.prompts = pipeline.prompts.flip(0)
    assert (pipeline.restore(x) - together).abs().mean() > 1e-3


# From pictures to pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scale", "expected"), [(1, (37, 23)), (2.5, (93, 58)), (4, (148, 92))])
def test_a_pil_picture_comes_back_enlarged(name: str, scale: float, expected: tuple[int, int]) -> None:
    (restored,) = tiny_pipeline(name)(photo(37, 23), scale=scale).images
    assert isinstance(restored, PIL.Image.Image)
    assert (restored.mode, restored.size) == ("RGB", expected)


def test_sizes_modes_and_many_at_once() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    grey, palette, cmyk = (photo(20, 9).convert(mode) for mode in ("L", "P", "CMYK"))
    pictures = [grey, palette, cmyk, photo(1, 1), photo(300, 2)]
    restored = pipeline(pictures, scale=2).images
    assert [image.size for image in restored] == [(40, 18)] * 3 + [(2, 2), (600, 4)]
    (alone,) = pipeline(grey, scale=2).images
    assert np.array_equal(np.asarray(alone), np.asarray(restored[0]))


def test_the_alpha_is_kept_and_enlarged() -> None:
    image = photo(16, 12).convert("RGBA")
    image.putalpha(PIL.Image.new("L", image.size, 128))
    (restored,) = tiny_pipeline("gendr-adc")(image, scale=2, output_type="pil").images
    assert (restored.mode, restored.size) == ("RGBA", (32, 24))
    assert set(np.unique(np.asarray(restored)[..., 3])) == {128}


def test_output_types_hold_the_same_picture() -> None:
    pipeline = tiny_pipeline("gendr")
    pil, array, tensor = (pipeline(photo(), scale=2, output_type=kind).images for kind in ("pil", "np", "pt"))
    assert array.shape == (1, 46, 74, 3) and array.dtype == np.float32 and tensor.shape == (1, 3, 46, 74)
    assert array.min() >= 0 and array.max() <= 1 and tensor.min() >= -1 and tensor.max() <= 1
    assert np.allclose(array[0], tensor[0].permute(1, 2, 0).numpy() / 2 + 0.5, atol=1e-6)
    assert np.array_equal(np.asarray(pil[0]), np.rint(array[0] * 255).astype(np.uint8))


def test_a_path_and_bytes_are_opened_by_the_gate(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("gendr-pix")
    file = tmp_path / "photo.png"
    photo().save(file)
    results = [pipeline(source, scale=1).images[0] for source in (file, str(file), file.read_bytes(), photo())]
    assert all(np.array_equal(np.asarray(results[0]), np.asarray(other)) for other in results[1:])
    with pytest.raises(PictureError):
        pipeline(b"no picture")


def test_bfloat16_stays_near_float32() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    exact = pipeline(photo(), scale=2, output_type="pt").images
    half = pipeline.to(torch.bfloat16)(photo(), scale=2, output_type="pt").images
    assert (half.float() - exact).abs().mean() < 0.02


REFUSALS = [
    ({"scale": 0.5}, "expected a number from 1 to 8"),
    ({"scale": 9}, "expected a number from 1 to 8"),
    ({"scale": float("nan")}, "expected a number from 1 to 8"),
    ({"guidance": 1.5, "pos_pad": (8, 0)}, "0 to 7"),
    ({"output_type": "jpg"}, "expected 'pil'"),
    ({"return_branches": True}, "no branches without guidance"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_pipeline("gendr-pix")(photo(), **options)


@pytest.mark.parametrize("name", ["gendr", "gendr-adc"])
def test_guidance_is_for_pix_only(name: str) -> None:
    with pytest.raises(ValueError, match="guidance is for gendr-pix only, not for"):
        tiny_pipeline(name)(photo(), guidance=1.5)


def test_no_picture_and_unequal_stacks_are_refused() -> None:
    pipeline = tiny_pipeline("gendr-pix")
    with pytest.raises(ValueError, match="No picture"):
        pipeline([])
    with pytest.raises(ValueError, match="different sizes"):
        pipeline([photo(8, 8), photo(9, 8)], output_type="pt")


# Saved and loaded ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_restorer_gives_the_same_picture(name: str, family: Path) -> None:
    expected = tiny_pipeline(name, vae=tiny_autoencoder()).restore(random_pixels())
    for loaded in (load_restorer(name, family), PIPELINES[name].from_pretrained(family / name)):
        assert type(loaded) is PIPELINES[name]
        assert loaded.config.form == TINY.forms[name]
        assert (loaded.restore(random_pixels()) - expected).abs().max() <= TOLERANCE


def test_the_shared_autoencoder_is_stored_once(family: Path) -> None:
    assert (family / "autoencoder" / "config.json").is_file()
    assert not list(family.glob("*/vae"))
    assert load_restorer("gendr-pix", family).vae is None


def test_a_restorer_with_its_own_autoencoder_stands_alone(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("gendr")
    pipeline.save_pretrained(tmp_path / "alone")
    loaded = load_restorer("gendr", tmp_path / "alone")
    assert (loaded.restore(random_pixels()) - pipeline.restore(random_pixels())).abs().max() <= TOLERANCE
    pipeline.save_pretrained(tmp_path / "alone", shared_vae="../autoencoder")
    assert pipeline.vae is not None  # saving takes nothing away


def test_dtype_and_progress_bar_are_those_asked_for(family: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = load_restorer("gendr-adc", family, dtype=torch.bfloat16)
    assert {pipeline.unet.dtype, pipeline.vae.dtype} == {torch.bfloat16}
    capsys.readouterr()
    pipeline([photo(8, 8)] * 2, scale=1)
    assert capsys.readouterr().err == ""
    pipeline.set_progress_bar_config(disable=False)
    pipeline([photo(8, 8)] * 2, scale=1)
    assert "2/2" in capsys.readouterr().err


def test_another_format_version_is_refused_by_name(tmp_path: Path) -> None:
    tiny_pipeline("gendr-pix").save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    config = json.loads(index.read_text())
    for version, remedy in ((2, "Upgrade gendrpix"), (0, "Export the weights again")):
        index.write_text(json.dumps({**config, "format_version": version}))
        with pytest.raises(ValueError, match=f"format version {version}.*{remedy}"):
            GenDRPixPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_pattern_is_taken_away_where_the_weights_ask_for_it(name: str, tmp_path: Path) -> None:
    plain = tiny_pipeline(name)
    x = random_pixels(32, 40)
    options = {"prompts": plain.prompts, "form": plain.config.form, "model": plain.config.model, "pattern_tokens": 3}
    PIPELINES[name](unet=plain.unet, vae=plain.vae, **options).save_pretrained(tmp_path)
    loaded = load_restorer(name, tmp_path)
    raw = plain._predict(x, plain.prompts[:1])
    expected = without_pattern(raw, x, 3).clamp(-1, 1)
    assert torch.allclose(loaded.restore(x), expected, atol=1e-5)
    assert not torch.allclose(plain.restore(x), expected, atol=1e-3)


@pytest.mark.parametrize("tokens", [4, -1, 1001])
def test_an_impossible_pattern_side_is_refused(tokens: int) -> None:
    one = tiny_pipeline("gendr-pix")
    with pytest.raises(ValueError, match="expected 0, or an odd number"):
        GenDRPixPipeline(unet=one.unet, prompts=one.prompts, pattern_tokens=tokens)


def test_weights_saved_before_there_was_a_pattern_side_have_none(tmp_path: Path) -> None:
    tiny_pipeline("gendr-pix").save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    saved = json.loads(index.read_text())
    assert saved.pop("pattern_tokens") == 0
    index.write_text(json.dumps(saved))
    assert load_restorer("gendr-pix", tmp_path).config.pattern_tokens == 0


def test_a_level_and_offsets_of_the_weights_own_are_kept(tmp_path: Path) -> None:
    plain = tiny_pipeline("gendr", form="epsilon")
    options = {"prompts": plain.prompts, "form": "epsilon", "model": plain.config.model}
    own = PIPELINES["gendr"](unet=plain.unet, vae=plain.vae, alpha_bar=0.5, pos_pad=(1, 2), neg_pad=(0, 7), **options)
    own.save_pretrained(tmp_path)
    loaded = load_restorer("gendr", tmp_path)
    assert (loaded.alpha_bar, loaded.pos_pad, loaded.neg_pad) == (0.5, (1, 2), (0, 7))
    assert (plain.alpha_bar, plain.pos_pad, plain.neg_pad) == (None, (4, 4), (3, 3))
    x = random_pixels(32, 40)
    assert torch.allclose(loaded.restore(x), own.restore(x), atol=1e-5)
    assert not torch.allclose(plain.restore(x), own.restore(x), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha_bar", 1.5), ("alpha_bar", "x"), ("neg_pad", [8, 0]), ("pos_pad", 4)]
)
def test_settings_of_the_weights_own_are_checked(tmp_path: Path, name: str, value: object) -> None:
    tiny_pipeline("gendr-pix").save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), name: value}))
    with pytest.raises(ValueError, match=f"no proper {name}"):
        load_restorer("gendr-pix", tmp_path)


def test_a_folder_without_prompts_is_no_restorer(tmp_path: Path) -> None:
    tiny_pipeline("gendr-pix").save_pretrained(tmp_path)
    (tmp_path / "prompts.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no prompts\.safetensors"):
        GenDRPixPipeline.from_pretrained(tmp_path)


def test_constructor_errors_show_what_was_got() -> None:
    pix, gendr = tiny_pipeline("gendr-pix"), tiny_pipeline("gendr")
    with pytest.raises(ValueError, match=r"got \(1, 3, 16\)"):
        GenDRPixPipeline(unet=pix.unet, prompts=pix.prompts[:1])
    with pytest.raises(ValueError, match="needs an autoencoder"):
        type(gendr)(unet=gendr.unet, prompts=gendr.prompts)


def test_they_are_diffusers_pipelines() -> None:
    pipeline = tiny_pipeline("gendr")
    assert isinstance(pipeline, DiffusionPipeline)
    assert set(pipeline.components) >= {"unet", "vae"}


def test_a_kl_autoencoder_is_shifted_and_scaled() -> None:
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.3,
        shift_factor=0.1,
    ).eval()
    pipeline = tiny_pipeline("gendr", vae=vae)
    x = random_pixels()
    with torch.no_grad():
        z = (vae.encode(x).latent_dist.mean - 0.1) * 0.3
        alpha, sigma = alpha_sigma(500)
        z = (z - sigma * pipeline.unet(z, 500, pipeline.prompts[:1]).sample) / alpha
        expected = vae.decode(z / 0.3 + 0.1).sample.clamp(-1, 1)
    assert (pipeline.restore(x) - expected).abs().max() <= TOLERANCE


def test_pictures_too_large_once_enlarged_are_refused_before_any_work() -> None:
    huge = Picture(color=torch.zeros(1, 3, 1, 1).expand(1, 3, 4000, 4000))
    with pytest.raises(ValueError, match="result would have"):
        tiny_pipeline("gendr-pix")(huge, scale=8)

"""Published systems merged into a Stable Diffusion: equal to peft's own adapters, runnable, refused where wrong."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from gendrpix.__main__ import main
from gendrpix.cli.importer import MODULES, find_system
from gendrpix.models.networks import signal_and_noise
from gendrpix.restore.pipelines import GenDRPipeline, load_restorer
from gendrpix.weights.source import encode_prompts
from gendrpix.weights.verify import stated_licence
from tests.helpers.pictures import photo

if importlib.util.find_spec("peft") is None:
    pytest.skip("pip install -r requirements-training.txt", allow_module_level=True)
from tests.helpers.sources import NARROW_VAE4, adapted_unet, adapted_vae, save_base
from tests.helpers.stages import make_photos
from training.__main__ import main as train


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {"sd21-vae4": NARROW_VAE4})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


def adapters(module: torch.nn.Module, *more: str) -> dict[str, Any]:
    return {name: value for name, value in module.state_dict().items() if "lora" in name or name.startswith(more)}


def osediff_file(base: Path, file: Path, rank: int = 4) -> tuple[Any, Any]:
    unet, groups = adapted_unet(base, rank)
    vae, layers = adapted_vae(base, rank)
    unet.conv_in.base_layer.weight.data.mul_(0.9)
    torch.save(
        {
            "vae_lora_encoder_modules": layers,
            **{f"unet_lora_{place}_modules": names for place, names in groups.items()},
            "rank_unet": rank,
            "rank_vae": rank,
            "state_dict_unet": adapters(unet, "conv_in"),
            "state_dict_vae": adapters(vae),
        },
        file,
    )
    return unet, vae


def words(system: str, base: Path, file: Path, out: Path, *more: str) -> list[str]:
    return ["import", system, "--base", str(base), "--weights", str(file), "-o", str(out), *more]


@torch.inference_mode()
def expected(base: Path, unet: Any, vae: Any, pixels: torch.Tensor, timestep: int, prompt: str = "") -> torch.Tensor:
    """The published one step, written out anew: epsilon from z, or z - UNet(z) at t = 1."""
    z = vae.encode(pixels).latent_dist.mode() * 0.18215
    output = unet(z, timestep, encode_prompts(str(base), (prompt, prompt))[:1]).sample
    alpha, sigma = signal_and_noise(timestep)
    clean = z - output if timestep == 1 else (z - sigma * output) / alpha
    return vae.decode(clean / 0.18215).sample.clamp(-1, 1)


def test_osediff_is_what_peft_computes(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unet, vae = osediff_file(base, tmp_path / "osediff.pkl")
    out = tmp_path / "merged"
    assert main(words("osediff", base, tmp_path / "osediff.pkl", out, "--prompt", "sharp")) == 0
    said = capsys.readouterr()
    assert "OSEDiff (https://github.com/cswry/OSEDiff): licence Apache-2.0; the base model's" in said.err
    merged = load_restorer("gendr", out)
    assert (merged.config.form, merged.config.timestep, merged.config.model) == ("epsilon", 999, "sd21-vae4")
    assert stated_licence(out) == "Apache-2.0" and (out / "SHA256SUMS").is_file()
    merged.set_attention("full")
    pixels = torch.rand(1, 3, 64, 48) * 2 - 1
    torch.testing.assert_close(
        merged.restore(pixels), expected(base, unet, vae, pixels, 999, "sharp"), atol=1e-4, rtol=0
    )
    unet.disable_adapters()
    without = expected(base, unet, vae, pixels, 999, "sharp")
    assert (merged.restore(pixels) - without).abs().max() > 1e-2
    assert merged(photo(11, 9), scale=2.0, output_type="pt").images.isfinite().all()


def test_pisa_sr_adds_both_adapters_and_turns_the_sign(tmp_path: Path, base: Path) -> None:
    from diffusers import AutoencoderKL
    from peft import LoraConfig

    unet, groups = adapted_unet(base, 4, "_pix")
    for place, layers in groups.items():
        unet.add_adapter(LoraConfig(r=2, target_modules=layers, init_lora_weights=False), f"default_{place}_sem")
    unet.set_adapter([f"default_{place}_{part}" for place in groups for part in ("pix", "sem")])
    entries = {f"unet_lora_{p}_modules_{part}": names for p, names in groups.items() for part in ("pix", "sem")}
    ranks = {"lora_rank_unet_pix": 4, "lora_rank_unet_sem": 2}
    torch.save({**entries, **ranks, "state_dict_unet": adapters(unet)}, tmp_path / "pisa_sr.pkl")
    assert main(words("pisa-sr", base, tmp_path / "pisa_sr.pkl", tmp_path / "merged")) == 0
    merged = GenDRPipeline.from_pretrained(tmp_path / "merged")
    assert (merged.config.form, merged.config.timestep) == ("residual", 1)
    vae, pixels = AutoencoderKL.from_pretrained(base, subfolder="vae"), torch.rand(1, 3, 48, 64) * 2 - 1
    wanted = expected(base, unet.eval(), vae, pixels, 1)
    torch.testing.assert_close(merged.restore(pixels), wanted, atol=1e-4, rtol=0)


def test_hypir_has_an_alpha_of_its_rank_and_a_strict_licence(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from peft import LoraConfig

    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    layers = ["to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out", "proj_in"]
    unet.add_adapter(LoraConfig(r=6, lora_alpha=6, target_modules=layers, init_lora_weights=False))
    torch.save(adapters(unet), tmp_path / "hypir.pth")
    assert main(words("hypir", base, tmp_path / "hypir.pth", tmp_path / "merged")) == 0
    assert "HYPIR's licence forbids commercial use" in capsys.readouterr().err
    assert "no commercial use" in stated_licence(tmp_path / "merged")
    merged = GenDRPipeline.from_pretrained(tmp_path / "merged")
    vae, pixels = AutoencoderKL.from_pretrained(base, subfolder="vae"), torch.rand(1, 3, 48, 64) * 2 - 1
    wanted = expected(base, unet.eval(), vae, pixels, 200)
    torch.testing.assert_close(merged.restore(pixels), wanted, atol=1e-4, rtol=0)


class Boom:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_wrong_truncated_and_hostile_files_are_refused(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, out = tmp_path / "good.pkl", tmp_path / "bad.pkl", tmp_path / "merged"
    osediff_file(base, good)
    table: dict[str, Any] = torch.load(good, weights_only=True)
    name = next(iter(table["state_dict_unet"]))
    adapter = "conv_in.lora_A.default_encoder.weight"
    weights = table["state_dict_unet"]
    half = {key: value for key, value in weights.items() if key != adapter}
    wide = {**weights, "conv_in.base_layer.weight": torch.zeros(3)}
    stranger = {**weights, "evil.lora_A.x.weight": weights[name], "evil.lora_B.x.weight": weights[name]}
    for content, said in (
        (pickle.dumps(Boom(tmp_path / "ran")), "holds more than numbers"),
        (good.read_bytes()[:-200], "damaged or holds more than numbers"),
        ([1], "holds no table of weights"),
        ({**table, "rank_unet": "4"}, "has no proper 'rank_unet'"),
        ({**table, "more": 1}, "has no proper 'more'"),
        ({**table, "rank_unet": 3}, "expected rank 3"),
        ({**table, "state_dict_unet": half}, "is not whole"),
        ({**table, "state_dict_unet": wide}, "of shape (3,), which the base has not"),
        ({**table, "state_dict_unet": stranger}, "has no layer in the base"),
        ({**table, "state_dict_unet": {}}, "has no adapters"),
    ):
        bad.write_bytes(content) if isinstance(content, bytes) else torch.save(content, bad)
        assert main(words("osediff", base, bad, out)) == 2
        told = capsys.readouterr().err
        assert said in told and "Traceback" not in told, told
        assert not out.exists() and not list(tmp_path.glob(".import-*"))
    assert not (tmp_path / "ran").exists()
    assert main(words("osediff", base, tmp_path / "none.pkl", out)) == 2
    assert main(words("osediff", tmp_path / "nowhere", good, out)) == 2
    assert "No scheduler in" in capsys.readouterr().err
    out.mkdir()
    assert main(words("osediff", base, good, out)) == 2
    assert "exists already" in capsys.readouterr().err


def test_one_more_system_is_one_file_of_at_most_80_lines() -> None:
    for module in MODULES.values():
        source = importlib.import_module(f"gendrpix.baselines.{module}").__file__
        assert source is not None and len(Path(source).read_text(encoding="utf-8").splitlines()) <= 80
    assert {find_system(name).name for name in MODULES} == set(MODULES)
    with pytest.raises(ValueError, match=r"Unknown system 'x'; expected one of osediff, pisa-sr, hypir"):
        find_system("x")


def test_two_steps_of_adc_and_pix_from_an_imported_teacher(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    osediff_file(base, tmp_path / "osediff.pkl")
    assert main(words("osediff", base, tmp_path / "osediff.pkl", tmp_path / "merged")) == 0
    photos = make_photos(tmp_path / "photos")
    common = ["--preset", "mini", "--model", "sd21-vae4", "--data.folder", str(photos), "--data.crop-px", "32"]
    common += ["--data.num-workers", "0", "--teacher", str(tmp_path / "merged"), "--fit-crops", "4"]
    loop = {"steps": 2, "batch": 2, "sample-every": 0, "checkpoint-every": 1000, "tracker": "none"}
    common += [word for name, value in loop.items() for word in (f"--loop.{name}", str(value))]
    adc, pix = tmp_path / "adc", tmp_path / "pix"
    assert train(["adc", *common, "--run", str(adc)]) == 0, capsys.readouterr().err
    own = ["--run", str(pix), "--adc", str(adc / "weights/gendr-adc"), "--finish-crops", "0"]
    assert train(["pix", *common, *own]) == 0, capsys.readouterr().err
    for name, run in (("gendr-adc", adc), ("gendr-pix", pix)):
        trained = load_restorer(name, run / "weights")
        assert (trained.config.model, trained.config.timestep) == ("sd21-vae4", 999)
        assert trained(photo(11, 9), scale=2.0, output_type="pt").images.isfinite().all()

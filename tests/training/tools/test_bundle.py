"""The bundle: four folders that load, one autoencoder, a card each, nothing lost when a run is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gendrpix.models.networks import build_autoencoder, build_unet
from gendrpix.restore.pipelines import PIPELINES, load_restorer
from gendrpix.specs import find_restorer
from tests.helpers.models import NARROW_SD21, tiny_autoencoder, tiny_pipeline
from training.presets import PRESETS
from training.tools.bundle import STAGES, BundleConfig, bundle
from training.tools.offset_choice import unet_digest
from training.tools.provenance import describe_degradation, describe_losses


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished runs of all stages, as their loops leave them."""
    folder = tmp_path / "runs"
    for name, stage in STAGES.items():
        model = tiny_autoencoder() if name == "autoencoder" else tiny_pipeline(name)
        model.save_pretrained(folder / stage / "weights" / name)
        settings = dataclasses.asdict(PRESETS[stage]["mini"])
        (folder / stage / "config.json").write_text(json.dumps(settings, default=str), encoding="utf-8")
    return folder


def test_a_bundle_restores_as_the_runs_weights_do(runs: Path, tmp_path: Path) -> None:
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini"))
    photo = Image.effect_noise((24, 16), 60).convert("RGB")
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        bundled = load_restorer(name, out)(photo, scale=2, output_type="pt").images
        direct = load_restorer(name, runs / STAGES[name] / "weights" / name)(photo, scale=2, output_type="pt").images
        assert torch.allclose(bundled, direct, atol=0.02)  # fp16 weights


def test_the_autoencoder_is_stored_once_and_in_half_precision(runs: Path, tmp_path: Path) -> None:
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini"))
    assert [path.parent.name for path in out.rglob("diffusion_pytorch_model.safetensors")].count("vae") == 0
    stored = (out / "autoencoder" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert stored < 2.2 * sum(p.numel() for p in tiny_autoencoder().parameters()) + 20_000


def test_cards_say_what_the_run_was(runs: Path, tmp_path: Path) -> None:
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini", data="a dozen photos", hardware="a laptop, an hour"))
    card = (out / "gendr-pix" / "README.md").read_text(encoding="utf-8")
    for words in ("a dozen photos", "a laptop, an hour", "license: cc-by-sa-4.0", "adversarial", "mfs 0.1"):
        assert words in card


def test_a_missing_run_is_named_and_nothing_is_written(runs: Path, tmp_path: Path) -> None:
    (runs / "pix" / "weights" / "gendr-pix").rename(runs / "pix" / "elsewhere")
    with pytest.raises(ValueError, match=r"pix has no finished weights of gendr-pix"):
        bundle(BundleConfig(runs=runs, out=tmp_path / "mini"))
    assert not (tmp_path / "mini").exists()


def test_cards_tell_the_phases_and_the_perceptual_features(runs: Path, tmp_path: Path) -> None:
    """pix is a mixture of `plain` and `sharp`; `sharp` went on from `plain`, and that from weights without a run."""
    last = runs / "pix" / "config.json"
    settings = json.loads(last.read_text(encoding="utf-8"))
    plain = {**settings, "perceptual": "none", "start": "/somewhere/mini/gendr-pix"}
    sharp = {**settings, "perceptual": "lpips-squeeze", "start": str(runs / "plain" / "weights" / "gendr-pix")}
    for name, one in (("plain", plain), ("sharp", sharp)):
        (runs / name).mkdir()
        (runs / name / "config.json").write_text(json.dumps(one), encoding="utf-8")
    shares = [{"source": name, "share": 0.5, "sha256": "0" * 12} for name in ("plain", "sharp")]
    last.write_text(json.dumps({**plain, "interpolation": shares}), encoding="utf-8")
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini", limits="none are known.", notes="It rained."))
    card = (out / "gendr-pix" / "README.md").read_text(encoding="utf-8")
    told = [line for line in card.splitlines() if line[:3] in ("1. ", "2. ", "3. ", "4. ")]
    assert [line.split("`")[1] for line in told] == ["plain", "sharp", "pix"]
    assert "continuing `mini/gendr-pix`" in told[0] and "perceptual" not in told[0]
    assert "continuing `plain`" in told[1] and "perceptual (lpips-squeeze) 1" in told[1]
    assert "0.5 of `plain`" in told[2]
    assert "| perceptual features | LPIPS's SqueezeNet 1.1: a metric with the same features proves less" in card
    assert "degradation `photo`" in told[0] and "none are known." in card and "It rained." in card
    assert str(tmp_path) not in card and "/somewhere" not in card
    card = (out / "autoencoder" / "README.md").read_text(encoding="utf-8")
    assert "| perceptual features | none |" in card and "degradation `" not in card
    assert "No released weights were used." in card


def test_the_photos_are_named_beside_the_weights(runs: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text("photo,licence\ncat.jpg,CC0\n", encoding="utf-8")
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini", attribution=table))
    assert (out / "ATTRIBUTION.csv").read_text(encoding="utf-8") == table.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="is not empty; pass another --out, or --overwrite"):
        bundle(BundleConfig(runs=runs, out=out))
    bundle(BundleConfig(runs=runs, out=out, overwrite=True))  # an earlier list stays
    assert (out / "ATTRIBUTION.csv").is_file()
    with pytest.raises(ValueError, match="--attribution a CSV"):
        bundle(BundleConfig(runs=runs, out=tmp_path / "other", attribution=tmp_path / "none.csv"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"data": {"degradation": "none"}, "l1_weight": 1}, "none"),
        ({"data": {"degradation": "photo", "scale": 4}}, "`photo`, x4"),
        (
            {"data": {"degradation": "photo", "scale": 4, "negative_probability": 0.5}, "l1_weight": 1},
            "`photo`, x4, of 50% of the crops",
        ),
    ],
)
def test_an_autoencoders_degradation_is_told_with_its_share(settings: dict[str, Any], told: str) -> None:
    assert describe_degradation(settings) == told


def test_a_stage_without_weights_of_terms_has_the_truth_alone() -> None:
    assert describe_losses({"padded_probability": 0.5}) == "the truth alone"


@pytest.fixture
def full_size_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Finished runs of an `sd21` chain, a twentieth as wide, on a ready-made autoencoder and a pixel teacher."""
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {"sd21": NARROW_SD21})
    folder, vae = tmp_path / "runs", build_autoencoder(NARROW_SD21)
    changes = {
        "base": {"source": "/somewhere/Manojb/stable-diffusion-2-1-base", "autoencoder": "ostris/vae-kl-f8-d16"},
        "teacher": {"autoencoder": "ostris/vae-kl-f8-d16", "base": str(folder / "base/weights/base")},
        "adc": {"teacher": str(folder / "teacher/weights/gendr")},
        "pix": {
            "taught": {"teacher": "/somewhere/RealESRGAN_x4plus.pth"},
            "adc": str(folder / "adc/weights/gendr-adc"),
        },
    }
    for stage, name in {"base": "gendr", "teacher": "gendr", "adc": "gendr-adc", "pix": "gendr-pix"}.items():
        spec = find_restorer(name)
        pipeline = PIPELINES[name](
            unet=build_unet(NARROW_SD21, *spec.channels(NARROW_SD21)),
            vae=vae if "latent" in (spec.reads, spec.writes) else None,
            prompts=torch.randn(2, NARROW_SD21.prompt_tokens, NARROW_SD21.prompt_channels),
            form=NARROW_SD21.forms[name],
            timestep=NARROW_SD21.timestep,
            model="sd21",
            alpha_bar=0.5 if stage == "teacher" else None,
        )
        pipeline.save_pretrained(folder / stage / "weights" / ("base" if stage == "base" else name))
        settings = {**dataclasses.asdict(PRESETS[stage]["sd21"]), **changes[stage]}
        (folder / stage / "config.json").write_text(json.dumps(settings, default=str), encoding="utf-8")
    return folder


def test_a_chain_of_full_size_and_what_its_cards_say(full_size_runs: Path, tmp_path: Path) -> None:
    out = bundle(BundleConfig(runs=full_size_runs, out=tmp_path / "bundle"))
    photo = Image.effect_noise((24, 16), 60).convert("RGB")
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        restorer = load_restorer(name, out)
        assert restorer.alpha_bar == (0.5 if name == "gendr" else None)
        assert restorer(photo, scale=2, output_type="pt").images.shape == (1, 3, 32, 48)
    cards = {name: (out / name / "README.md").read_text(encoding="utf-8") for name in STAGES}
    assert all("gendrpix sd21" in card and "No released weights" not in card for card in cards.values())
    assert not any("/somewhere" in card or str(tmp_path) in card for card in cards.values())
    assert "It was not trained here: it is ostris/vae-kl-f8-d16 (MIT)" in cards["autoencoder"]
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        assert "the base began as Stable Diffusion 2.1 (CreativeML Open RAIL++-M)" in cards[name]
        assert "license: openrail++" in cards[name] and "the autoencoder is ostris/vae-kl-f8-d16 (MIT)" in cards[name]
    assert ["Real-ESRGAN (BSD-3-Clause)" in cards[name] for name in ("gendr", "gendr-pix")] == [False, True]
    assert "a small model" not in cards["gendr-pix"] and "the base model is" not in cards["gendr"]


def test_measured_offsets_become_the_weights_default(runs: Path, tmp_path: Path) -> None:
    pix = load_restorer("gendr-pix", runs / "pix" / "weights" / "gendr-pix")
    chosen = {"pos_pad": [4, 4], "neg_pad": [0, 4]}
    file = runs / "offsets.json"
    file.write_text(json.dumps({"weights": unet_digest(pix), "chosen": chosen}), encoding="utf-8")
    bundled = load_restorer("gendr-pix", bundle(BundleConfig(runs=runs, out=tmp_path / "mini")))
    assert (pix.pos_pad, pix.neg_pad) == ((4, 4), (3, 3))
    assert (bundled.pos_pad, bundled.neg_pad) == ((4, 4), (0, 4))
    photo = Image.effect_noise((24, 16), 60).convert("RGB")
    own = bundled(photo, scale=2, guidance=1.5, output_type="pt").images
    assert torch.equal(own, bundled(photo, scale=2, guidance=1.5, neg_pad=(0, 4), output_type="pt").images)
    assert not torch.equal(own, bundled(photo, scale=2, guidance=1.5, neg_pad=(3, 3), output_type="pt").images)
    file.write_text(json.dumps({"weights": "other", "chosen": chosen}), encoding="utf-8")
    with pytest.raises(ValueError, match="measured with other weights"):
        bundle(BundleConfig(runs=runs, out=tmp_path / "other"))

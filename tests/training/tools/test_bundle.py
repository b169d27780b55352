"""The bundle: four folders that load, one autoencoder, a card each, nothing lost when a run is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import tiny_autoencoder, tiny_pipeline
from training.presets import PRESETS
from training.tools.bundle import STAGES, BundleConfig, bundle
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


def test_the_photos_are_named_beside_the_weights(runs: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text("photo,licence\ncat.jpg,CC0\n", encoding="utf-8")
    out = bundle(BundleConfig(runs=runs, out=tmp_path / "mini", attribution=table))
    assert (out / "ATTRIBUTION.csv").read_text(encoding="utf-8") == table.read_text(encoding="utf-8")
    bundle(BundleConfig(runs=runs, out=out))  # an earlier list stays
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

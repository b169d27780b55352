"""The bundle: four folders that load, one autoencoder, a card each, nothing lost when a run is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gendrpix.pipelines import load_restorer
from tests.models import tiny_autoencoder, tiny_pipeline
from training.bundle import STAGES, BundleConfig, bundle
from training.config import PRESETS


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

"""Network interpolation: the mean of weights, refusals, what the record and the card say, nothing half written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import training.tools.merge
from gendrpix.restore.pipelines import GenDRPixPipeline
from tests.helpers.models import tiny_autoencoder, tiny_pipeline
from training.__main__ import main
from training.presets import PRESETS
from training.tools.bundle import STAGES, BundleConfig, bundle
from training.tools.merge import InterpolateConfig, interpolate


def make_run(folder: Path, name: str = "gendr-pix", *, steps: int = 7, **model: Any) -> Path:
    """A finished run as a stage's loop leaves it."""
    tiny_pipeline(name, **model).save_pretrained(folder / "weights" / name)
    settings = dataclasses.asdict(PRESETS[STAGES[name]]["mini"])
    settings["loop"]["steps"] = steps
    (folder / "config.json").write_text(json.dumps(settings, default=str), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path, Path]:
    one, two, three = (make_run(tmp_path / f"run-{seed}", seed=seed, steps=10 + seed) for seed in range(3))
    return one, two, three


def weights(folder: Path) -> dict[str, torch.Tensor]:
    pipeline = GenDRPixPipeline.from_pretrained(folder, dtype=torch.float32)
    return {**pipeline.unet.state_dict(), "prompts": pipeline.prompts.float()}


def test_the_mixture_is_the_weighted_mean_of_weights_and_prompts(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    written = interpolate(InterpolateConfig(sources=runs, shares=(0.5, 0.3, 0.2), out=tmp_path / "mixed"))
    assert written == tmp_path / "mixed" / "weights" / "gendr-pix"
    mixed, sources = weights(written), [weights(run / "weights" / "gendr-pix") for run in runs]
    for name, value in mixed.items():
        expected = 0.5 * sources[0][name] + 0.3 * sources[1][name] + 0.2 * sources[2][name]
        assert torch.allclose(value, expected, rtol=2e-3, atol=2e-4), name  # stored as fp16


def test_through_the_command_with_all_of_one_share_that_network_comes_back(
    runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[1] / "weights" / "gendr-pix"  # a folder of weights does as well as a run
    words = ["--sources", str(runs[0]), str(folder), "--shares", "0", "1", "--out", str(tmp_path / "mixed")]
    assert main(["interpolate", *words]) == 0, capsys.readouterr().err
    mixed, only = weights(tmp_path / "mixed" / "weights" / "gendr-pix"), weights(folder)
    assert all(torch.allclose(mixed[name], only[name], rtol=1e-3, atol=1e-4) for name in only)


def test_the_record_has_every_source_and_the_settings_of_the_largest(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    interpolate(InterpolateConfig(sources=runs, shares=(0.3, 0.7, 0.0), out=tmp_path / "mixed"))
    settings = json.loads((tmp_path / "mixed" / "config.json").read_text(encoding="utf-8"))
    assert settings["loop"]["steps"] == 11
    told = [(one["source"], one["share"], len(one["sha256"])) for one in settings["interpolation"]]
    assert told == [("run-0", 0.3, 12), ("run-1", 0.7, 12), ("run-2", 0.0, 12)]


def test_the_card_tells_the_shares_and_a_share_of_nothing_too(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    family = tmp_path / "runs"
    for name in ("gendr", "gendr-adc"):
        make_run(family / STAGES[name], name)
    tiny_autoencoder().save_pretrained(family / "autoencoder" / "weights" / "autoencoder")
    settings = dataclasses.asdict(PRESETS["autoencoder"]["mini"])
    (family / "autoencoder" / "config.json").write_text(json.dumps(settings, default=str), encoding="utf-8")
    interpolate(InterpolateConfig(sources=runs, shares=(0.3, 0.7, 0.0), out=family / "pix"))
    out = bundle(BundleConfig(runs=family, out=tmp_path / "mini", notes="More words."))
    card = (out / "gendr-pix" / "README.md").read_text(encoding="utf-8")
    assert "mean of 3 trained networks" in card
    assert "0.3 of `run-0`" in card and "0.7 of `run-1`" in card and "0 of `run-2`" in card
    assert "More words." in card
    assert "network interpolation" not in (out / "gendr" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gendr-adc", {}, "GenDR-Pix and GenDR-Adc"),
        ("gendr-pix", {"form": "direct"}, "form residual and direct"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, name: str, change: dict[str, Any], words: str) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", name, **change)
    with pytest.raises(ValueError, match=words):
        interpolate(InterpolateConfig(sources=(one, other), shares=(0.5, 0.5), out=tmp_path / "mixed"))
    assert not (tmp_path / "mixed").exists()


def test_unets_of_other_shapes_and_other_autoencoders_are_refused(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "one"), tiny_pipeline("gendr-pix")
    other.prompts = other.prompts[:, :-1]
    other.save_pretrained(tmp_path / "short" / "weights" / "gendr-pix")
    config = InterpolateConfig(sources=(one, tmp_path / "short"), shares=(0.5, 0.5), out=tmp_path / "mixed")
    with pytest.raises(ValueError, match="other shapes"):
        interpolate(config)
    latent = [make_run(tmp_path / f"adc-{seed}", "gendr-adc", vae=tiny_autoencoder(seed)) for seed in (0, 1)]
    with pytest.raises(ValueError, match="different autoencoders"):
        interpolate(InterpolateConfig(sources=tuple(latent), shares=(0.5, 0.5), out=tmp_path / "mixed"))
    again = make_run(tmp_path / "adc-again", "gendr-adc", seed=5, vae=tiny_autoencoder(0))
    interpolate(InterpolateConfig(sources=(latent[0], again), shares=(0.5, 0.5), out=tmp_path / "mixed"))


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.6), (1.5, -0.5), (1 / 3, 1 / 3, 1 / 3)])
def test_shares_that_make_no_mean_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        InterpolateConfig(sources=(Path("a"), Path("b")), shares=shares, out=Path("c"))


def test_a_trained_run_is_never_overwritten_and_an_earlier_mixture_is(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    before = weights(runs[2] / "weights" / "gendr-pix")
    with pytest.raises(ValueError, match="holds a training run"):
        interpolate(InterpolateConfig(sources=runs[:2], shares=(0.5, 0.5), out=runs[2]))
    after = weights(runs[2] / "weights" / "gendr-pix")
    assert all(torch.equal(before[name], after[name]) for name in before)
    for shares in ((0.5, 0.5), (1.0, 0.0)):
        interpolate(InterpolateConfig(sources=runs[:2], shares=shares, out=tmp_path / "mixed"))
    settings = json.loads((tmp_path / "mixed" / "config.json").read_text(encoding="utf-8"))
    assert [one["share"] for one in settings["interpolation"]] == [1.0, 0.0]


def test_no_record_tells_of_weights_that_were_not_written(
    runs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = InterpolateConfig(sources=runs[:2], shares=(0.5, 0.5), out=tmp_path / "mixed")
    interpolate(config)

    def full(*_: Any, **__: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.tools.merge, "replace_saved", full)
    words = ["--sources", *map(str, config.sources), "--shares", "0.5", "0.5", "--out", str(config.out)]
    assert main(["interpolate", *words]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "mixed" / "config.json").exists()


def test_sources_without_settings_or_weights_are_refused_in_a_sentence(
    runs: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [run / "weights" / "gendr-pix" for run in runs[:2]]
    with pytest.raises(ValueError, match="at least one run"):
        interpolate(InterpolateConfig(sources=tuple(folders), shares=(0.5, 0.5), out=tmp_path / "mixed"))
    words = ["--sources", str(runs[0]), str(tmp_path), "--shares", "0.5", "0.5", "--out", str(tmp_path / "mixed")]
    assert main(["interpolate", *words]) == 1
    assert "neither a finished run" in capsys.readouterr().err

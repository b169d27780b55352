"""`--dry-run`: one step of every preset at its true size on the meta device, and what the command prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from gendrpix.models.networks import build_unet
from gendrpix.specs import RESTORER_SPECS, find_model
from tests.helpers.models import TINY
from training.__main__ import main
from training.config import PixConfig
from training.presets import PRESETS
from training.tools.dry_run import STUDENTS, _Kept, estimate_step
from training.tools.speed import GPU_PEAKS, describe_speed, hours_on

LAUNCHERS = Path(__file__).resolve().parents[3] / "training" / "accelerate"


SIZES = [("base", 865.98), ("teacher", 865.98), ("adc", 866.49), ("pix", 866.99)]


@pytest.mark.parametrize(("stage", "millions"), SIZES)
def test_a_step_at_full_size(stage: str, millions: float) -> None:
    config = PRESETS[stage]["sd21"]
    estimate = estimate_step(config, stage)
    assert estimate.parameters["student"] / 1e6 == pytest.approx(millions, abs=0.005)
    assert estimate.parameters["autoencoder"] == 57_266_643
    spec = find_model("sd21")
    with torch.device("meta"):
        unet = build_unet(spec, *RESTORER_SPECS[STUDENTS[stage]].channels(spec))
    assert estimate.groups["student"] == len(list(unet.parameters()))
    assert ("heads" in estimate.groups) == (stage != "base")
    others = sum(count for role, count in estimate.parameters.items() if role not in ("student", "heads"))
    trained = estimate.parameters.get("heads", 0)
    if stage == "teacher":  # rank 64 on q, k, v and out of every attention: 64 (in + out) weights each
        for role in ("fake score", "real score"):
            adapters = estimate.parameters[role] - estimate.parameters["base"]
            assert estimate.groups[role] == 2 * 4 * 32 and adapters == 64 * sum(lora_sides())
            trained, others = trained + adapters, others - adapters
    assert estimate.state_bytes == (16 + 4 + 2) * estimate.parameters["student"] + 16 * trained + 4 * others
    assert 1 << 29 < estimate.kept_bytes < 60 << 30
    outputs = {"adc": 16, "pix": 192}.get(stage)  # of a fitted `conv_out`, with 320 x 9 features and a constant
    size = 320 * 9 + 1
    assert estimate.fit_bytes == (3 * 8 * size * (size + outputs) + 4096 * (20 * size + 12 * outputs) if outputs else 0)


def lora_sides() -> list[int]:
    """(in + out) of the four projections of self- and cross-attention in Stable Diffusion 2.1's 16 blocks."""
    blocks = {320: 2 + 3, 640: 2 + 3, 1280: 2 + 1 + 3}
    return [count * (4 * 2 * width + 2 * 2 * width + 2 * (1024 + width)) for width, count in blocks.items()]


def test_the_presets_are_the_papers() -> None:
    for stage in ("teacher", "adc", "pix"):
        config = PRESETS[stage]["sd21"]
        assert (config.data.crop_px, config.data.scale, config.data.degradation) == (512, 4, "real-esrgan")
        loop = config.loop
        assert (loop.learning_rate, loop.mixed_precision, loop.gradient_checkpointing) == (1e-5, "bf16", True)
    adc, pix = PRESETS["adc"]["sd21"], PRESETS["pix"]["sd21"]
    assert isinstance(pix, PixConfig)
    assert (adc.distill_weight, adc.adversarial_weight, adc.backbone) == (1, 0.05, "gendr")  # type: ignore[attr-defined]
    assert (pix.adversarial_weight, pix.perceptual_weight, pix.mfs_weight) == (0.05, 1, 0.1)
    assert (pix.backbone, pix.randpad, pix.real, pix.truth_weight) == ("adc", True, "teacher", 0)


def test_checkpointing_saves_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {TINY.name: TINY})
    config = dataclasses.replace(PRESETS["adc"]["mini"], model="tiny")
    plain = estimate_step(config, "adc")
    spared = estimate_step(
        dataclasses.replace(config, loop=dataclasses.replace(config.loop, gradient_checkpointing=True)), "adc"
    )
    assert spared.kept_bytes < plain.kept_bytes
    assert spared.parameters == plain.parameters


def test_the_shift_term_costs_one_more_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {TINY.name: TINY})
    config = dataclasses.replace(PRESETS["pix"]["mini"], model="tiny", backbone="none", perceptual="none")  # type: ignore[call-arg]
    plain = estimate_step(config, "pix")
    assert plain.fit_bytes > 0 == estimate_step(dataclasses.replace(config, fit_crops=0), "pix").fit_bytes  # type: ignore[call-arg]
    shifted = estimate_step(dataclasses.replace(config, shift_weight=1.0), "pix")  # type: ignore[call-arg]
    assert shifted.kept_bytes == plain.kept_bytes
    assert 0.1 < (shifted.flops - plain.flops) / plain.flops < 0.5


def test_kept_bytes_of_a_chain_that_can_be_counted_by_hand() -> None:
    kept = _Kept()
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        with kept.counted():
            model(torch.empty(5, 8))
    assert kept.total == 4 * (5 * 8 + 5 * 16)  # the input, and the rectified map that both neighbours share


def test_the_command_prints_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["pix", "--preset", "mini", "--dry-run", "--run", str(run), "--loop.batch", "2"]) == 0
    text = capsys.readouterr().out
    for word in ('"learning_rate": 0.0003', "student", "13.10 M", "memory", "images/s", "dry run: nothing was"):
        assert word in text
    assert not run.exists()
    assert main(["adc", "--dry-run", "--model", "huge"]) == 1
    assert "Unknown model 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(LAUNCHERS.glob("*.yaml")), ids=lambda file: file.stem)
def test_launch_configurations_are_known_to_accelerate(file: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    on_cpu = file.stem == "two-cpu-processes"
    assert (config.mixed_precision, config.use_cpu) == (("no", True) if on_cpu else ("bf16", False))
    assert config.num_processes == {"one-gpu": 1, "two-cpu-processes": 2}.get(file.stem, 8)
    assert str(yaml.safe_load(file.read_text())["distributed_type"]) in str(config.distributed_type)


def test_a_device_that_would_take_months_is_not_meant_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.tools.speed._matmul_speed", lambda device, dtype: 1e10)
    loop = PRESETS["pix"]["sd21"].loop
    lines = describe_speed(32 * 10**12, loop)
    assert "not meant for such a run" in lines[0] and len(lines) == 1 + len(GPU_PEAKS)
    assert all("hours on one" in line and "data sheet" in line for line in lines[1:])
    hours = 32e12 * loop.steps / (0.4 * 312e12) / 3600
    assert hours_on(GPU_PEAKS["A100"], 32 * 10**12, loop) == pytest.approx(hours)
    (line,) = describe_speed(10**9, dataclasses.replace(loop, steps=100))
    assert "a matrix product reaches here (cpu, float32)" in line

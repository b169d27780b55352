"""The cache of teacher targets: what is stored, by what it is known, and runs with, without and through it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from gendrpix.restore.pipelines import GenDRPipeline
from tests.helpers.models import save_tiny_family, tiny_pipeline
from tests.helpers.stages import assert_same, checkpoint_state, stage_words
from training.__main__ import main
from training.config import AdcConfig, DataConfig, LoopConfig
from training.data.crops import open_crops
from training.loop.teacher_cache import SHARD_SAMPLES, TargetCache, targets_key
from training.teachers.pixel_teacher import weights_hash

CPU = torch.device("cpu")


class Teacher:
    """Counts its calls; sample i's target is i / 3."""

    def __init__(self) -> None:
        self.calls = 0

    def of(self, indices: list[int]) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"a": torch.tensor(indices).float()[:, None] / 3, "b": torch.zeros(len(indices), 2, 2)}


def test_targets_are_computed_once_and_given_back_as_stored(tmp_path: Path) -> None:
    teacher = Teacher()
    batches = [[n, n + 1, n + 2] for n in range(0, SHARD_SAMPLES + 9, 3)]
    cache = TargetCache(tmp_path)
    filled = [cache(indices, lambda i=indices: teacher.of(i), CPU) for indices in batches]
    cache.flush()
    calls = teacher.calls
    again = TargetCache(tmp_path)
    for indices, first in zip(batches, filled, strict=True):
        read = again(indices, lambda i=indices: teacher.of(i), CPU)
        for name in ("a", "b"):
            assert read[name].dtype == torch.float32 and torch.equal(read[name], first[name])
        exact = torch.tensor(indices).float()[:, None] / 3
        torch.testing.assert_close(read["a"], exact, atol=0, rtol=2**-11)
    assert teacher.calls == calls == len(batches) and again.hits == 3 * len(batches)
    assert not list(tmp_path.glob(".*"))


def test_stored_targets_can_be_read_under_autocast(tmp_path: Path) -> None:
    """PyTorch refuses to stack float16 under the CPU's bfloat16 autocast, in which a stage asks for its targets."""
    cache = TargetCache(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        filled = cache([0, 1], lambda: {"teacher": torch.rand(2, 3)}, CPU)
        cache.flush()
        read = cache([0, 1], dict, CPU)
    assert cache.hits == 2 and read["teacher"].dtype == torch.float32
    assert torch.equal(read["teacher"], filled["teacher"])


def test_another_batch_size_and_several_processes_share_a_shard(tmp_path: Path) -> None:
    teacher = Teacher()
    one, two = TargetCache(tmp_path), TargetCache(tmp_path)
    one([0, 1], lambda: teacher.of([0, 1]), CPU)
    two([2, 3], lambda: teacher.of([2, 3]), CPU)
    one.flush()
    two.flush()
    third = TargetCache(tmp_path)
    assert third([0, 1, 2, 3], lambda: teacher.of([0, 1, 2, 3]), CPU)["a"].flatten()[3] == pytest.approx(1)
    assert third.hits == 4
    third([3, 4], lambda: teacher.of([3, 4]), CPU)
    third.flush()
    assert third([4, 3], lambda: teacher.of([4, 3]), CPU)["a"][0] == pytest.approx(4 / 3, rel=1e-3)
    assert third.misses == 2 and teacher.calls == 3


def test_without_a_folder_everything_passes() -> None:
    third = torch.tensor([[1 / 3]])
    assert TargetCache(None)([0], lambda: {"a": third}, CPU)["a"] is third


def test_the_key_follows_everything_that_changes_a_target(tmp_path: Path, photos: Path) -> None:
    teacher = tiny_pipeline("gendr")
    assert isinstance(teacher, GenDRPipeline)
    config = AdcConfig(
        preset="mini", data=DataConfig(folder=photos, crop_px=32), loop=LoopConfig(), target_cache=tmp_path
    )

    def key(changed: AdcConfig, stage: str = "adc", model: GenDRPipeline = teacher) -> str:
        return targets_key(changed, stage, model, open_crops(changed.data, 0)[0])

    def data(**changes: object) -> AdcConfig:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))

    same = key(config)
    assert key(data(num_workers=0)) == same
    moved = tmp_path / "elsewhere"
    shutil.copytree(photos, moved)
    assert key(data(folder=moved)) == same
    other_teacher = tiny_pipeline("gendr", seed=1)
    assert isinstance(other_teacher, GenDRPipeline) and weights_hash(other_teacher) != weights_hash(teacher)
    (moved / "more.png").write_bytes((moved / "0.png").read_bytes())
    different = [
        key(config, "pix"),
        key(config, model=other_teacher),
        key(data(degradation="bicubic")),
        key(data(zoom=(0.7, 1.0))),
        key(data(folder=moved)),
        key(dataclasses.replace(config, loop=LoopConfig(seed=1))),
    ]
    assert same not in different and len(set(different)) == len(different)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("stage", ["adc", "pix"])
def test_runs_with_and_without_the_cache(
    tmp_path: Path, photos: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    states = {}
    for name in ("without", "filling", "reading"):
        words = stage_words(stage, family, photos, tmp_path / name, steps=3)
        if name != "without":
            words += ["--target-cache", str(tmp_path / "cache")]
        if name == "reading":
            monkeypatch.delattr("training.loop.teacher_cache.TargetCache._keep")  # so that a miss would fail
        assert main(words) == 0
        states[name] = checkpoint_state(tmp_path / name / "checkpoints/step-00000003")["model.safetensors"]
    for weight in states["without"]:
        torch.testing.assert_close(states["filling"][weight], states["without"][weight], atol=5e-3, rtol=0)
    assert_same(states["reading"], states["filling"])

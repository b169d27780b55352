"""The engine under the stages: learning rate, checkpoints, resume to the last bit, kills, two processes."""

from __future__ import annotations

import io
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from PIL import Image

from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import save_tiny_family
from tests.helpers.stages import ROOT, WEIGHTS, assert_same, checkpoint_state, stage_words, start_stage
from training.__main__ import main
from training.config import DataConfig, LoopConfig, StageConfig
from training.loop.run import Run, TrainingStopped, check_states


def open_run(folder: Path, **loop: object) -> Run:
    settings = LoopConfig(**{"steps": 100, "tracker": "none", **loop})  # type: ignore[arg-type]
    return Run(StageConfig(preset="mini", run=folder, data=DataConfig(num_workers=0), loop=settings), "stage")


class Counting(torch.utils.data.Dataset):
    """Sample i is the number i."""

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"index": torch.tensor(index)}


# Steps and rates ------------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls_by_a_cosine(tmp_path: Path) -> None:
    run = open_run(tmp_path, steps=110, warmup_steps=10, final_learning_rate=1e-5)
    assert [run.learning_rate_at(step, 1e-3) for step in (0, 4, 9)] == pytest.approx([1e-4, 5e-4, 1e-3])
    assert run.learning_rate_at(60, 1e-3) == pytest.approx((1e-3 + 1e-5) / 2)
    expected = 1e-5 + (1e-3 - 1e-5) * math.cos(math.pi / 2 * 0.25) ** 2  # cos^2(x / 2) = (1 + cos x) / 2
    assert run.learning_rate_at(35, 1e-3) == pytest.approx(expected)
    assert run.learning_rate_at(110, 1e-3) == pytest.approx(1e-5)
    assert run.learning_rate_at(500, 1e-3) == pytest.approx(1e-5)
    assert run.learning_rate_at(110, 1e-7) == pytest.approx(1e-7), "never rises above the peak"


def test_batches_go_on_where_a_resume_starts_with_accumulated_micro_steps(tmp_path: Path) -> None:
    run = open_run(tmp_path, steps=4, batch=3, accumulate=2)
    whole = [(step, batch["index"].tolist()) for step, batch in run.batches(Counting(), 0)]
    assert [step for step, _ in whole] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [index for _, indices in whole for index in indices] == list(range(24))
    assert [(step, batch["index"].tolist()) for step, batch in run.batches(Counting(), 2)] == whole[4:]


def weights_after(tmp_path: Path, name: str, *, batch: int, accumulate: int, replica: bool) -> torch.Tensor:
    torch.manual_seed(0)
    run = open_run(tmp_path / name, steps=3, batch=batch, accumulate=accumulate, clip_norm=0.5)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    if not replica:
        model, optimizer = run.accelerator.prepare(model, optimizer)
    update = run.update_replica if replica else run.update
    for step, samples in run.batches(Counting(), 0):
        with run.accelerator.accumulate(model):
            inputs = torch.sin(samples["index"][:, None] * torch.arange(1.0, 5))
            update((model(inputs) - 1).square().mean(), optimizer, model.parameters(), 0.1, step)
    return model.weight.detach().clone()


@pytest.mark.parametrize("replica", [False, True])
def test_accumulated_micro_steps_equal_one_large_batch(tmp_path: Path, replica: bool) -> None:
    small = weights_after(tmp_path, "small", batch=2, accumulate=3, replica=replica)
    large = weights_after(tmp_path, "large", batch=6, accumulate=1, replica=replica)
    assert not torch.allclose(large, torch.nn.Linear(4, 1).weight)
    torch.testing.assert_close(small, large, atol=1e-6, rtol=0)


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["update", "update_replica"])
def test_a_loss_or_gradient_that_is_not_finite_stops_with_its_step(tmp_path: Path, name: str) -> None:
    run = open_run(tmp_path)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    with pytest.raises(TrainingStopped, match=r"loss is nan at step 7.*intact"):
        getattr(run, name)(model(torch.ones(2)).sum() * math.nan, optimizer, model.parameters(), 0.1, 7)
    rootless = (model(torch.ones(2)) * 0).abs().sqrt().sum()  # 0, with an infinite derivative
    with pytest.raises(TrainingStopped, match="gradient's norm is nan at step 8"):
        getattr(run, name)(rootless, optimizer, model.parameters(), 0.1, 8)
    assert torch.equal(model.weight, before)


def test_an_unwritable_run_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"run folder .*file/run cannot be written .* pass --run"):
        open_run(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="No run folder: pass --run"):
        open_run(Path())


@pytest.mark.usefixtures("tiny")
def test_a_diverged_run_leaves_its_last_checkpoint(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.stages.adc

    family = save_tiny_family(tmp_path / "family", ("gendr",))
    words = stage_words("adc", family, photos, tmp_path / "run", steps=3, checkpoint_every=1)
    calls = []

    def breaks_at_step_2(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return (student - target).abs().mean() * (math.nan if len(calls) > 4 else 1)  # two calls a step

    with monkeypatch.context() as patch:
        patch.setattr(training.stages.adc, "l1_loss", breaks_at_step_2)
        assert main(words) == 1
    assert "the loss is nan at step 2" in capsys.readouterr().err
    assert names(tmp_path / "run") == ["step-00000001", "step-00000002"]
    assert main(words) == 0, "the run resumes"
    assert main(stage_words("adc", family, photos, tmp_path / "whole", steps=3, checkpoint_every=1)) == 0
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def test_a_checkpoint_that_cannot_be_written_stops_and_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path)
    run.save(10)

    def full(folder: str) -> None:
        Path(folder).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.accelerator, "save_state", full)
    with pytest.raises(TrainingStopped, match=r"checkpoint of step 20 .*No space left.*Free some space"):
        run.save(20)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000010"]


# Checkpoints ----------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


def last_state(folder: Path) -> dict[str, object]:
    return checkpoint_state(folder / "checkpoints" / names(folder)[-1])


def test_the_last_few_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    run = open_run(tmp_path, keep_checkpoints=2)
    for step, psnr in ((10, 20.0), (20, 25.0), (30, 24.0), (40, 23.0), (50, 22.0)):
        run.judge(step, {"held_out_psnr": psnr})
        run.save(step)
    assert names(tmp_path) == ["step-00000020", "step-00000040", "step-00000050"]
    again = open_run(tmp_path, keep_checkpoints=2)
    again.judge(60, {"held_out_psnr": 26.0})
    again.save(60)
    assert names(tmp_path) == ["step-00000050", "step-00000060"]


def test_figures_and_samples_of_a_validation_go_to_the_tracker(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = open_run(tmp_path, tracker="tensorboard")
    picture = run.sample_picture(10)
    assert picture is not None
    picture.parent.mkdir()
    Image.new("RGB", (24, 8), (200, 30, 60)).save(picture)
    run.judge(10, {"held_out_psnr": 21.5})
    run.finish()
    log = EventAccumulator(str(tmp_path / "log-stage")).Reload()
    assert [(event.step, event.value) for event in log.Scalars("held_out_psnr")] == [(10, 21.5)]
    (tag,) = log.Tags()["images"]
    (event,) = log.Images(tag)
    with Image.open(io.BytesIO(event.encoded_image_string)) as shown:
        assert event.step == 10 and shown.size == (24, 8) and shown.convert("RGB").getpixel((3, 3)) == (200, 30, 60)


def test_partial_checkpoints_are_ignored_and_removed(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    assert run.resume() == 0
    run.save(10)
    left = run.checkpoints / ".step-00000020.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert open_run(tmp_path).resume() == 10
    assert not left.exists()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("half", "accumulate"), [(10, 1), (2, 2)])
@pytest.mark.parametrize("stage", ["adc", "pix"])
def test_two_halves_equal_the_whole_run(tmp_path: Path, photos: Path, stage: str, half: int, accumulate: int) -> None:
    """10 and 10 steps equal 20 to the last bit: student, average, heads, both optimisers, and what is exported."""
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    options = {"steps": 2 * half, "checkpoint_every": half, "keep_checkpoints": 9, "sample_every": half + 1}
    options["accumulate"] = accumulate
    middle, last = (f"checkpoints/step-{step:08d}" for step in (half, 2 * half))
    assert main(stage_words(stage, family, photos, tmp_path / "whole", **options)) == 0
    (tmp_path / "halves").mkdir()
    shutil.copytree(tmp_path / "whole" / middle, tmp_path / "halves" / middle)
    assert main(stage_words(stage, family, photos, tmp_path / "halves", **options)) == 0
    assert_same(last_state(tmp_path / "halves"), last_state(tmp_path / "whole"))
    start, end = (checkpoint_state(tmp_path / "whole" / place) for place in (middle, last))
    assert set(start) == {
        "model.safetensors",  # student
        "optimizer.bin",
        "custom_checkpoint_0.pkl",  # average
        "custom_checkpoint_1.pkl",  # heads
        "custom_checkpoint_2.pkl",  # their optimiser
    }
    for file in start:
        with pytest.raises(AssertionError):
            assert_same(start[file], end[file])
    exports = [load_restorer(WEIGHTS[stage], tmp_path / run / "weights") for run in ("whole", "halves")]
    assert_same(*(dict(one.unet.state_dict()) for one in exports))


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"decay": 0.9, "shadow_params": [torch.zeros(3)]}, tmp_path / "custom_checkpoint_0.pkl")
    check_states(tmp_path)
    for content in (Bomb(), {"shadow_params": [Bomb()]}):
        torch.save(content, tmp_path / "custom_checkpoint_1.pkl")
        with pytest.raises(TrainingStopped, match=r"holds more than numbers .* and is not loaded; remove"):
            check_states(tmp_path)
    (tmp_path / "custom_checkpoint_1.pkl").write_bytes(b"cut")
    with pytest.raises(TrainingStopped, match="damaged"):
        check_states(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("tiny")
def test_the_average_is_what_its_definition_gives(tmp_path: Path, photos: Path) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    options = {"steps": 4, "checkpoint_every": 1, "keep_checkpoints": 9, "ema_decay": 0.9}
    assert main(stage_words("adc", family, photos, tmp_path / "run", **options)) == 0
    states = [checkpoint_state(tmp_path / f"run/checkpoints/step-{n:08d}") for n in (1, 2, 3, 4)]
    averages = [state["custom_checkpoint_0.pkl"]["shadow_params"] for state in states]
    order = [name for name, _ in load_restorer("gendr-adc", tmp_path / "run/weights").unet.named_parameters()]
    for number in (1, 2, 3):
        decay = min(0.9, 1 - (1 + number) ** -0.75)  # warm-up after number + 1 steps
        for at, name in enumerate(order):
            weight = states[number]["model.safetensors"][name]
            expected = decay * averages[number - 1][at] + (1 - decay) * weight
            torch.testing.assert_close(averages[number][at], expected, atol=1e-6, rtol=1e-5)


# Processes ------------------------------------------------------------------------------------------------------------


def finish(*processes: BaseProcess) -> None:
    for process in processes:
        process.join()
        assert process.exitcode == 0, "its words are above"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["adc", "pix"])
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path: Path, photos: Path, stage: str) -> None:
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    options = {"steps": 16, "checkpoint_every": 1, "sample_every": 8}
    finish(start_stage(stage_words(stage, family, photos, tmp_path / "whole", **options)))
    rng = random.Random(stage)
    killed = tmp_path / "killed"
    reached = []
    for _ in range(5):
        before = names(killed)
        child = start_stage(stage_words(stage, family, photos, killed, **options))
        while names(killed) == before and child.is_alive():  # the start takes most of the time
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.3))
        child.kill()
        child.join()
        reached.append(names(killed)[-1])
    assert len(set(reached)) > 1
    finish(start_stage(stage_words(stage, family, photos, killed, **options)))
    assert_same(last_state(killed), last_state(tmp_path / "whole"))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder", "teacher", "adc", "pix"])
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path, photos: Path, stage: str) -> None:
    """By plain gradient descent at a rate of 1, so that the weights show the gradients themselves.

    Over gloo, with the variables that `torchrun` sets.
    """
    family = save_tiny_family(tmp_path / "family", ("gendr", "gendr-adc"))
    options = {"steps": 3, "checkpoint_every": 3, "warmup_steps": 0, "learning_rate": 1.0, "final_learning_rate": 1.0}
    clip_norm = 0.05 if stage == "pix" else 0.01  # its output layer starts at zero: the others move little
    extra = ["--discriminator-learning-rate", "1"] if stage in ("adc", "pix") else []

    def state(name: str, batch: int, processes: int) -> dict[str, object]:
        words = stage_words(stage, family, photos, tmp_path / name, batch=batch, clip_norm=clip_norm, **options)
        common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        children = [
            start_stage([*words, *extra], plain_descent=True, RANK=str(rank), LOCAL_RANK=str(rank), **common)
            for rank in range(processes)
        ]
        finish(*children)
        return last_state(tmp_path / name)

    one, two = state("one", 4, 1), state("two", 2, 2)
    assert list(one) == list(two)
    start = checkpoint_zero(stage, family, photos, tmp_path)
    for file in ("model.safetensors", "custom_checkpoint_1.pkl")[: 2 if extra else 1]:
        moved = max((one[file][name] - start[file][name]).abs().max().item() for name in one[file])
        assert moved > 1e-3, "the comparison must compare something"
        for name in one[file]:
            torch.testing.assert_close(two[file][name], one[file][name], atol=1e-5, rtol=0, msg=lambda m, n=name: n + m)


@pytest.mark.slow
def test_accelerate_starts_two_processes_on_a_cpu(tmp_path: Path, photos: Path) -> None:
    """With the launch configuration; its own `--cpu --num_processes 2` starts one, which says so and stops."""
    family = save_tiny_family(tmp_path / "family", ("gendr",))
    options = {"steps": 2, "checkpoint_every": 2, "warmup_steps": 0, "learning_rate": 1.0, "final_learning_rate": 1.0}

    def launch(name: str, *how: str) -> subprocess.CompletedProcess[str]:
        words = stage_words("adc", family, photos, tmp_path / name, batch=2, **options)
        command = [sys.executable, "-m", "accelerate.commands.launch", *how, "--main_process_port", free_port()]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [*command, str(ROOT / "tests/helpers/stages.py"), *words], capture_output=True, text=True, env=variables
        )

    finish(start_stage(stage_words("adc", family, photos, tmp_path / "one", batch=4, **options), plain_descent=True))
    done = launch("two", "--config_file", str(ROOT / "training/accelerate/two-cpu-processes.yaml"))
    assert done.returncode == 0, done.stderr
    one, two = last_state(tmp_path / "one"), last_state(tmp_path / "two")
    for file in ("model.safetensors", "custom_checkpoint_1.pkl"):
        for name in one[file]:
            torch.testing.assert_close(two[file][name], one[file][name], atol=1e-5, rtol=0, msg=lambda m, n=name: n + m)
    alone = launch("alone", "--cpu", "--num_processes", "2")
    assert alone.returncode != 0 and "asked for several processes and has started one" in alone.stderr


def checkpoint_zero(stage: str, family: Path, photos: Path, folder: Path) -> dict[str, object]:
    """The state before the first step: of a run with a rate of 0."""
    words = stage_words(
        stage, family, photos, folder / "zero", steps=1, checkpoint_every=1, learning_rate=0, final_learning_rate=0
    )
    extra = ["--discriminator-learning-rate", "0"] if stage in ("adc", "pix") else []
    finish(start_stage([*words, *extra], plain_descent=True))
    return last_state(folder / "zero")

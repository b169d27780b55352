"""Training stages at a tiny size, through the real command; in processes of their own where a test needs some."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import gendrpix.specs
from tests.helpers.models import TINY
from training.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
CROP_PX = 32
WEIGHTS = {"autoencoder": "autoencoder", "teacher": "gendr", "adc": "gendr-adc", "pix": "gendr-pix"}
"""Stage => the folder of its export within `weights`."""


def make_photos(folder: Path, count: int = 4, side: int = 64) -> Path:
    """Seeded photos of soft blobs and noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
        noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-20, 21, (side, side, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def stage_words(stage: str, family: Path, photos: Path, run: Path, *, steps: int, **loop: Any) -> list[str]:
    """The command's words for a tiny run that starts from the weights in `family` (see `models.save_tiny_family`)."""
    settings = {"steps": steps, "batch": 2, "sample_every": 0, "checkpoint_every": 1000, "tracker": "none"}
    words = [stage, "--preset", "mini", "--model", "tiny", "--run", str(run), "--data.folder", str(photos)]
    words += ["--data.crop-px", str(CROP_PX), "--data.num-workers", "0", "--data.negative-probability", "0.4"]
    for name, value in {**settings, **loop}.items():
        words += [f"--loop.{name.replace('_', '-')}", str(value)]
    if stage == "autoencoder":
        words += ["--start", "random"]
    if stage in ("base", "teacher"):
        words += ["--autoencoder", str(family / "autoencoder")]
    if stage == "teacher":
        words += ["--pixel-crop-px", "16", "--head-channels", "8", "--whitening-crops", "4"]
    if stage in ("adc", "pix"):
        words += [
            "--teacher",
            str(family / "gendr"),
            "--head-channels",
            "8",
            "--fit-crops",
            "4",
            "--whitening-crops",
            "4",
        ]
    if stage == "pix":
        words += ["--adc", str(family / "gendr-adc"), "--finish-crops", "4"]
    return words


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """Everything in a checkpoint, file by file, but the state of the random generators."""
    state: dict[str, Any] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("random_states"):
            continue
        is_safe = file.suffix == ".safetensors"
        state[file.name] = load_file(file) if is_safe else torch.load(file, weights_only=False)
    return state


def assert_same(a: Any, b: Any, place: str = "") -> None:
    """Equal to the last bit; a failure names the place."""
    assert type(a) is type(b), place
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f"{place}: differs by {(a - b).abs().max().item()}"
    elif isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{place}/{number}")
    else:
        assert a == b, place


def start_stage(words: list[str], *, plain_descent: bool = False, **variables: str) -> BaseProcess:
    """The command in a process of its own, forked from a server that has done the imports.

    `plain_descent` puts gradient descent in the place of AdamW, so that weights show gradients as they are.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.__main__", "training.stages.adc", "training.stages.pix"])
    os.environ["PYTHONPATH"] = str(ROOT)  # read when the server starts
    process = context.Process(target=_run_stage, args=(words, plain_descent, variables))
    process.start()
    return process


def _run_stage(words: list[str], plain_descent: bool, variables: dict[str, str]) -> None:
    os.environ.update(ACCELERATE_USE_CPU="true", HF_HUB_OFFLINE="1", **variables)
    torch.set_num_threads(1)
    gendrpix.specs.MODEL_SPECS = {TINY.name: TINY}
    if plain_descent:
        torch.optim.AdamW = lambda parameters, lr, **_: torch.optim.SGD(parameters, lr=lr)
    sys.exit(main(words))


if __name__ == "__main__":  # for launchers of several processes
    _run_stage(sys.argv[1:], True, {})

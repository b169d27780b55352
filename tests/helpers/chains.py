"""The whole chain at a tiny size, in a process of its own that can be killed."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import gendrpix.specs
import training.tools.chain
from tests.helpers.models import EVEN
from tests.helpers.stages import ROOT
from training.__main__ import main

LOOP = "batch = 2, steps = {steps}, sample_every = 0, checkpoint_every = 1, tracker = 'none'"
SETTINGS = {
    "autoencoder": "start = 'random'",
    "finest": "",
    "teacher": "fit_crops = 4\npixel_crop_px = 16\nhead_channels = 8\nwhitening_crops = 4",
    "adc": "fit_crops = 4\nhead_channels = 8\nwhitening_crops = 4",
    "pix": "fit_crops = 4\nhead_channels = 8\nwhitening_crops = 4\nfinish_crops = 4",
}


def write_preset(file: Path, steps: int) -> Path:
    """The preset `mini` with tiny steps, crops and model, as a file for `--preset`."""
    tables = ["preset = 'mini'"]
    for stage, words in SETTINGS.items():
        tables += [f"[{stage}]", "model = 'even'", words, f"loop = {{ {LOOP.format(steps=steps)} }}"]
        tables += ["data = { crop_px = 32, num_workers = 0 }"]
    file.write_text("\n".join(tables) + "\n", encoding="utf-8")
    return file


def chain_words(preset: Path, photos: Path, runs: Path) -> list[str]:
    """The command's words."""
    return ["chain", "--data", str(photos), "--runs", str(runs), "--preset", str(preset)]


def start_chain(words: list[str]) -> BaseProcess:
    """The command in a process of its own, forked from a server that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["training.__main__", "training.tools.chain", "training.stages.pix", "training.stages.finest"]
    )
    os.environ["PYTHONPATH"] = str(ROOT)  # read when the server starts
    process = context.Process(target=run_chain, args=(words,))
    process.start()
    return process


def run_chain(words: list[str]) -> None:
    """The command with the tiny family in the registry, scored without networks of others."""
    os.environ.update(ACCELERATE_USE_CPU="true", HF_HUB_OFFLINE="1")
    torch.set_num_threads(1)
    gendrpix.specs.MODEL_SPECS = {EVEN.name: EVEN}
    vars(training.tools.chain)["METRICS"] = ("psnr", "ssim")
    sys.exit(main(words))

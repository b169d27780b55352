"""`python -m training chain --data PHOTOS --runs RUNS`: all stages of a preset, then the bundle and the evaluation.

Each stage has the folder RUNS/STAGE. Started again with the same words, the chain skips the stages that have exported
their weights and resumes the one that was interrupted.
"""

from __future__ import annotations

import gc
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState

from gendrpix.metrics.registry import METRICS
from gendrpix.specs import PATCH, find_model
from training.config import TaughtConfig
from training.evaluation.config import EvaluateConfig
from training.evaluation.evaluate import evaluate
from training.tools.bundle import BundleConfig, bundle
from training.tools.chain_plan import Plan, Step, Task, make_plan
from training.tools.chain_records import check_inputs, is_finished, record_inputs
from training.tools.dry_run import estimate_step
from training.tools.speed import describe_speed

logger = logging.getLogger(__name__)

BUNDLE = "bundle"
EVALUATION = "evaluation"
SMALLEST_PX = 512
"""Of the middle of each held-out photo that is evaluated, at least; a photo may be smaller."""


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """What the whole chain is trained on, and where its runs go."""

    data: Path
    """Folder of photos, searched recursively. Five in a hundred are held out and used for the evaluation."""
    runs: Path
    """Folder of the runs: one a stage, `bundle` and `evaluation`."""
    preset: str = "mini"
    """"mini", "sd21", or a TOML file with `preset` and a table of settings for each stage (docs/training.md)."""
    source: str = ""
    """Folder or hub id of a Stable Diffusion 2.1 in diffusers' layout: the start of the stage `base` of `sd21`."""
    autoencoder: str = ""
    """Folder or hub id of a ready-made autoencoder. `sd21` needs one; `mini` trains its own without."""
    taught: TaughtConfig = field(default_factory=TaughtConfig)
    """A pixel teacher for `finest`, `teacher` and `pix`; `adc` takes its crops."""
    words: str = "a folder of photos"
    """Words for the cards: what it was trained on."""
    hardware: str = "not stated"
    """Words for the cards: where and how long."""
    licence: str = ""
    """Licence of the weights, for the cards; empty as `bundle` chooses."""
    dry_run: bool = False
    """Print what each stage would take, and stop."""


def chain(config: ChainConfig) -> Path:
    """Train what is not finished, bundle and evaluate; returns the folder of the bundled weights.

    Raises ValueError for settings that do not fit, before anything is trained where that can be told.
    """
    plan = make_plan(config.data, config.runs, config.preset, config.source, config.autoencoder, config.taught)
    waiting = [task for task in plan.tasks if not is_finished(task)]
    _describe(plan, waiting)
    if config.dry_run:
        return config.runs
    for number, task in enumerate(plan.tasks, 1):
        _run(task, f"stage {number} of {len(plan.tasks)}, {task.stage}")
    if not PartialState().is_main_process:
        return config.runs / BUNDLE
    bundled = _once(plan, BUNDLE, lambda folder: bundle(_bundle_settings(config, plan, folder)))
    _once(plan, EVALUATION, lambda folder: evaluate(_evaluation_settings(config, plan, folder)))
    return bundled


def _describe(plan: Plan, waiting: list[Task]) -> None:
    """Say what is left to do and what each stage takes, counted on the meta device."""
    for task in plan.tasks:
        if task not in waiting:
            logger.info("chain: %s is finished: %s", task.stage, task.weights)
            continue
        estimate = estimate_step(task.config, task.stage)
        gibibytes = (estimate.state_bytes + estimate.kept_bytes) / (1 << 30)
        loop = task.config.loop
        logger.info("chain: %s: %d steps, %.1f GiB without what libraries take", task.stage, loop.steps, gibibytes)
        for line in describe_speed(estimate.flops, loop):
            logger.info("chain: %s: %s", task.stage, " ".join(line.split()))


def _run(task: Task, title: str) -> None:
    if is_finished(task):
        check_inputs(task)
        return
    logger.info("chain: %s", title)
    record_inputs(task)
    importlib.import_module(f"training.stages.{task.stage}").train(task.config)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _once(plan: Plan, name: str, make: Callable[[Path], Path]) -> Path:
    """Make a folder of results unless it is there, made of the same weights."""
    step = Step(plan.runs / name, {task.stage: task.weights for task in plan.tasks})
    if not is_finished(step):
        if step.folder.exists() and not step.record.is_file():
            raise ValueError(f"{step.folder} exists and is not of this chain; move it away, or pass other --runs.")
        logger.info("chain: %s", name)
        step.record.unlink(missing_ok=True)
        make(step.folder)
        record_inputs(step)
    return step.folder


def _bundle_settings(config: ChainConfig, plan: Plan, folder: Path) -> BundleConfig:
    return BundleConfig(
        runs=plan.runs,
        out=folder,
        data=config.words,
        hardware=config.hardware,
        licence=config.licence,
        overwrite=True,
    )


def _evaluation_settings(config: ChainConfig, plan: Plan, folder: Path) -> EvaluateConfig:
    """On the photos that the stages hold out, degraded as they were trained."""
    data = plan.tasks[-1].config.data
    return EvaluateConfig(
        out=folder,
        held_out=config.data,
        degradation=data.degradation,
        scale=data.scale,
        weights=str(plan.runs / BUNDLE),
        most_px=max(find_model(plan.model).unet["sample_size"] * PATCH, data.crop_px, SMALLEST_PX),
        metrics=tuple(METRICS),
        overwrite=True,
    )

"""What every stage's loop stands on: the run folder, devices, trackers, checkpoints, learning rate, progress."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from training.config import StageConfig
from training.data import step_sampler

logger = logging.getLogger(__name__)

CHECKPOINT_PREFIX = "step-"


class TrainingStopped(RuntimeError):
    """A run that cannot go on; its last complete checkpoint is intact."""


class Run:
    """One training run: owns its folder and its `accelerate.Accelerator`, knows no model."""

    def __init__(self, config: StageConfig, stage: str) -> None:
        if config.run == Path():
            raise ValueError("No run folder: pass --run FOLDER, where checkpoints, log and weights are kept.")
        self.config, self.stage = config, stage
        self.folder = config.run
        self.checkpoints = self.folder / "checkpoints"
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        loop = config.loop
        self.accelerator = Accelerator(
            mixed_precision=loop.mixed_precision,
            gradient_accumulation_steps=loop.accumulate,
            log_with=None if loop.tracker == "none" else loop.tracker,
            project_config=ProjectConfiguration(project_dir=str(self.folder), logging_dir=str(self.folder)),
        )
        if self.accelerator.is_main_process:
            resolved = json.dumps(dataclasses.asdict(config), indent=2, default=str)
            (self.folder / "config.json").write_text(resolved + "\n", encoding="utf-8")
        if loop.tracker != "none":
            self.accelerator.init_trackers(f"log-{stage}")

    # Data ----------------------------------------------------------------------------------------------------------

    def batches(self, dataset: Dataset[dict[str, Any]], start_step: int) -> Iterator[dict[str, Tensor]]:
        """This process's batches from `start_step` on, one per micro-step, moved to its device."""
        loop, accelerator = self.config.loop, self.accelerator
        sampler = step_sampler(
            start_step * loop.accumulate,
            loop.steps * loop.accumulate,
            loop.batch,
            accelerator.process_index,
            accelerator.num_processes,
        )
        workers = self.config.data.num_workers
        loader: DataLoader[dict[str, Any]] = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=accelerator.device.type == "cuda",
            multiprocessing_context="fork" if workers and os.name == "posix" else None,
        )
        for batch in loader:
            yield {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}

    # Optimisation --------------------------------------------------------------------------------------------------

    def learning_rate_at(self, step: int, peak: float) -> float:
        """Linear warm-up, then a cosine to `final_learning_rate`: a function of the step alone."""
        loop = self.config.loop
        if step < loop.warmup_steps:
            return peak * (step + 1) / loop.warmup_steps
        progress = (step - loop.warmup_steps) / max(1, loop.steps - loop.warmup_steps)
        floor = min(loop.final_learning_rate, peak)
        return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * min(1.0, progress)))

    def update(
        self, loss: Tensor, optimizer: Optimizer, parameters: Iterable[nn.Parameter], lr: float, step: int
    ) -> None:
        """Backward, clip, optimiser step. Raises TrainingStopped on a loss or a gradient that is not finite."""
        if not torch.isfinite(loss):
            raise TrainingStopped(f"{self.stage}: the loss is {loss.item()} at step {step}; {self._advice()}")
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(list(parameters), self.config.loop.clip_norm)
            if norm is not None and not math.isfinite(float(norm)):
                raise TrainingStopped(f"{self.stage}: the gradient's norm is {norm} at step {step}; {self._advice()}")
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()

    def _advice(self) -> str:
        return f"the checkpoints in {self.checkpoints} are intact. Lower the learning rate and resume."

    # Checkpoints ---------------------------------------------------------------------------------------------------

    def resume(self) -> int:
        """Load the last complete checkpoint into all that was prepared or registered; the step it stands at, else 0."""
        complete = self._complete_checkpoints()
        if not self.config.resume or not complete:
            return 0
        last = complete[-1]
        self.accelerator.load_state(str(last))
        step = int(last.name.removeprefix(CHECKPOINT_PREFIX))
        logger.info("%s: resumed at step %d from %s", self.stage, step, last)
        return step

    def save(self, step: int) -> None:
        """Write the state beside its final name and rename it; then drop all but the last few."""
        accelerator = self.accelerator
        final = self.checkpoints / f"{CHECKPOINT_PREFIX}{step:08d}"
        partial = self.checkpoints / f".{final.name}.partial"
        if final.exists():
            return
        if accelerator.is_main_process and partial.exists():
            shutil.rmtree(partial)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise TrainingStopped(
                f"{self.stage}: the checkpoint of step {step} could not be written ({error}). Free some space in "
                f"{self.checkpoints} and resume; the earlier checkpoints are intact."
            ) from error
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            partial.rename(final)
            for old in self._complete_checkpoints()[: -self.config.loop.keep_checkpoints]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()

    def _complete_checkpoints(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob(f"{CHECKPOINT_PREFIX}*") if path.is_dir())

    def due(self, step: int, every: int) -> bool:
        """Whether something done at intervals, and at the end, is due after `step` finished steps."""
        return bool(every) and (step % every == 0 or step == self.config.loop.steps)

    # Reporting -----------------------------------------------------------------------------------------------------

    def progress(self, start_step: int) -> tqdm[Any]:
        """A bar over the steps; shows the loss terms given to `report`, and images a second through its rate."""
        return tqdm(
            initial=start_step,
            total=self.config.loop.steps,
            desc=self.stage,
            disable=not self.accelerator.is_main_process,
            mininterval=10,
            dynamic_ncols=True,
        )

    def report(self, bar: tqdm[Any], step: int, terms: Mapping[str, Tensor | float]) -> None:
        """Advance the bar and, every ten steps, show and track the terms."""
        bar.update(1)
        if step % 10 and step != self.config.loop.steps:
            return
        values = {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}
        rate = bar.format_dict["rate"] or 0.0
        images = rate * self.config.loop.batch * self.config.loop.accumulate * self.accelerator.num_processes
        bar.set_postfix_str(" ".join(f"{k}={v:.4g}" for k, v in values.items()) + f" {images:.1f} img/s")
        self.accelerator.log({**values, "images_per_second": images}, step=step)

    def finish(self) -> None:
        """Close the trackers."""
        self.accelerator.end_training()


def keep_trainable(module: nn.Module, *, trainable: bool) -> nn.Module:
    """Set `requires_grad` of all parameters; a frozen module is also put in evaluation mode."""
    module.requires_grad_(trainable)
    return module.train(trainable)

"""What every stage's loop stands on: the run folder, devices, trackers, checkpoints, learning rate, progress."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from gendrpix.files import write_text
from training.config import StageConfig
from training.data.loader import open_loader
from training.data.stream import PhotoStream
from training.loop.accelerators import AUTOCAST_DTYPES, open_accelerator

logger = logging.getLogger(__name__)

CHECKPOINT_PREFIX = "step-"
BEST_FILE = "best.json"


class TrainingStopped(RuntimeError):
    """A run that cannot go on; its last complete checkpoint is intact."""


class Run:
    """One training run: owns its folder and its `accelerate.Accelerator`, knows no model."""

    def __init__(self, config: StageConfig, stage: str, *, divisible: bool = True) -> None:
        """Open the folder and the devices. `divisible` tells whether FSDP can divide the model that is trained.

        Raises ValueError for a folder or a launch configuration that will not do.
        """
        if config.run == Path():
            raise ValueError("No run folder: pass --run FOLDER, where checkpoints, log and weights are kept.")
        self.config, self.stage = config, stage
        self.folder = config.run
        self.checkpoints = self.folder / "checkpoints"
        loop = config.loop
        self.accelerator = open_accelerator(loop, self.folder)
        if self.accelerator.distributed_type == DistributedType.FSDP and not divisible:
            raise ValueError(
                f"{stage}, with these settings, trains a model that FSDP does not divide; launch it with "
                "training/accelerate/one-gpu.yaml or eight-gpus-zero2.yaml."
            )
        self._candidate: tuple[int, float] | None = None
        self._waited_s = 0.0
        self._reported_at = time.perf_counter()
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            if self.accelerator.is_main_process:
                resolved = json.dumps(dataclasses.asdict(config), indent=2, default=str)
                write_text(self.folder / "config.json", resolved + "\n")
        except OSError as error:
            raise ValueError(
                f"The run folder {self.folder} cannot be written ({error}); pass --run with a folder that can."
            ) from error
        if loop.tracker != "none":
            self.accelerator.init_trackers(f"log-{stage}")

    # Data ----------------------------------------------------------------------------------------------------------

    def batches(
        self, crops: Dataset[dict[str, Tensor]] | PhotoStream, start_step: int
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """(step, batch) from `start_step` on: this process's batches on its device, `accumulate` of them a step."""
        loop, accelerator = self.config.loop, self.accelerator
        loader = open_loader(
            crops,
            loop.batch,
            loop.steps * loop.accumulate,
            start_step=start_step * loop.accumulate,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            num_workers=self.config.data.num_workers,
            pinned=accelerator.device.type == "cuda",
        )
        asked_at = time.perf_counter()
        for micro_step, batch in enumerate(loader, start=start_step * loop.accumulate):
            moved = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}
            self._waited_s += time.perf_counter() - asked_at
            yield micro_step // loop.accumulate, moved
            asked_at = time.perf_counter()

    @property
    def sharded(self) -> bool:
        """Whether DeepSpeed or FSDP divides the trained model among the processes."""
        return self.accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP)

    def place(self, model: nn.Module) -> None:
        """Move the model to train to the device, in place, channels last where it is held whole.

        DeepSpeed and FSDP flatten the weights and refuse those whose memory lies in another order.
        """
        layout = torch.contiguous_format if self.sharded else torch.channels_last
        model.to(self.accelerator.device).to(memory_format=layout)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision as the settings ask for it; accelerate's own does nothing under DeepSpeed."""
        dtype = AUTOCAST_DTYPES[self.config.loop.mixed_precision]
        return torch.autocast(self.accelerator.device.type, dtype) if dtype else nullcontext()

    @contextmanager
    def computing(self, model: nn.Module) -> Iterator[None]:
        """Accumulation over micro-steps and mixed precision for one step of the prepared model.

        On the CPU attention takes PyTorch's plain kernel: at the size of training crops it is the faster one.
        """
        plain = self.accelerator.device.type == "cpu"
        kernels = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
        with self.accelerator.accumulate(model), self.autocast(), kernels:
            yield

    def fit_count(self, asked: int) -> int:
        """Crops for a fit before training: as asked, but no more than the run's own steps will see; says so."""
        loop = self.config.loop
        seen = loop.steps * loop.batch * loop.accumulate * self.accelerator.num_processes
        if seen < asked:
            logger.info(
                "%s: the first fit takes %d crops in place of %d: as many as are trained on", self.stage, seen, asked
            )
        return int(min(asked, seen))

    # Optimisation --------------------------------------------------------------------------------------------------

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """AdamW over the stage's trained model, one pass over the memory for each tensor where the device has that."""
        loop = self.config.loop
        return torch.optim.AdamW(
            parameters,
            lr=loop.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=loop.weight_decay,
            fused=self.accelerator.device.type in ("cpu", "cuda"),
        )

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
        """Backward, clip, optimiser step of the prepared model; the last two once for all micro-steps of a step.

        Raises TrainingStopped on a loss or a gradient that is not finite.
        """
        self._check_loss(loss, step)
        _set_learning_rate(optimizer, lr)  # before the backward pass, in which DeepSpeed steps
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(list(parameters), self.config.loop.clip_norm)
            if norm is not None and self.accelerator.scaler is None:  # fp16's scaler skips such a step by itself
                self._check_norm(float(norm), step)
        optimizer.step()
        optimizer.zero_grad()

    def update_replica(
        self, loss: Tensor, optimizer: Optimizer, parameters: Iterable[nn.Parameter], lr: float, step: int
    ) -> None:
        """The same for a small float32 module that every process holds whole and that was not prepared.

        DeepSpeed wraps one model a run, and a wrapped module cannot be frozen for a phase; so the gradients of the
        discriminator's heads are averaged over the processes here.
        """
        accelerator, trained = self.accelerator, list(parameters)
        self._check_loss(loss, step)
        (loss / self.config.loop.accumulate).backward()
        if not accelerator.sync_gradients:
            return
        gradients = [p.grad for p in trained if p.grad is not None]
        if accelerator.num_processes > 1:
            flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self._check_norm(float(nn.utils.clip_grad_norm_(trained, self.config.loop.clip_norm)), step)
        _set_learning_rate(optimizer, lr)
        optimizer.step()
        optimizer.zero_grad()

    def _check_loss(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            raise TrainingStopped(f"{self.stage}: the loss is {loss.item()} at step {step}; {self._advice()}")

    def _check_norm(self, norm: float, step: int) -> None:
        if not math.isfinite(norm):
            raise TrainingStopped(f"{self.stage}: the gradient's norm is {norm} at step {step}; {self._advice()}")

    def _advice(self) -> str:
        return f"the checkpoints in {self.checkpoints} are intact. Lower the learning rate and resume."

    # Checkpoints ---------------------------------------------------------------------------------------------------

    def resume(self) -> int:
        """Load the last complete checkpoint into all that was prepared or registered; the step it stands at, else 0."""
        if self.accelerator.is_main_process:
            for partial in self.checkpoints.glob(f".{CHECKPOINT_PREFIX}*.partial"):
                shutil.rmtree(partial)
        complete = self._complete_checkpoints()
        if not self.config.resume or not complete:
            return 0
        last = complete[-1]
        check_states(last)
        self.accelerator.load_state(str(last))
        step = int(last.name.removeprefix(CHECKPOINT_PREFIX))
        logger.info("%s: resumed at step %d from %s", self.stage, step, last)
        return step

    @property
    def fresh(self) -> bool:
        """Whether the run begins at step 0: what a checkpoint would overwrite need not be computed otherwise."""
        return not (self.config.resume and self._complete_checkpoints())

    def save(self, step: int) -> None:
        """Write the state beside its final name and rename it; then drop all but the last few and the best."""
        accelerator = self.accelerator
        final = self.checkpoints / f"{CHECKPOINT_PREFIX}{step:08d}"
        partial = _partial(final)
        if final.exists():
            return
        if accelerator.is_main_process and partial.exists():
            shutil.rmtree(partial)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise TrainingStopped(
                f"{self.stage}: the checkpoint of step {step} could not be written ({error}). Free some space in "
                f"{self.checkpoints} and resume; the earlier checkpoints are intact."
            ) from error
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            partial.rename(final)
            self._mark_best(step)
            self._drop_old()
        accelerator.wait_for_everyone()

    def judge(self, step: int, figures: Mapping[str, float]) -> None:
        """Track a validation's figures and samples; if a checkpoint of this step is written, it may be kept as best."""
        self.accelerator.log(dict(figures), step=step)
        picture = self.sample_picture(step)
        if picture is not None and picture.is_file():
            with Image.open(picture) as image:
                shown = np.asarray(image)[None]  # (1, H, W, 3) uint8
            for tracker in self.accelerator.trackers:
                tracker.log_images({"samples": shown}, step=step, dataformats="NHWC")
        logger.info("%s: step %d: %s", self.stage, step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
        self._candidate = (step, figures.get("held_out_psnr_to_teacher", figures["held_out_psnr"]))

    def sample_picture(self, step: int) -> Path | None:
        """Where the samples of a validation go; None in all processes but the main one."""
        return self.folder / "samples" / f"{step:06d}.png" if self.accelerator.is_main_process else None

    def _mark_best(self, step: int) -> None:
        best = self._best()
        if self._candidate is None or self._candidate[0] != step or self._candidate[1] <= best["held_out_psnr"]:
            return
        text = json.dumps({"step": step, "held_out_psnr": self._candidate[1]})
        partial = _partial(self.checkpoints / BEST_FILE)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.rename(self.checkpoints / BEST_FILE)

    def _best(self) -> dict[str, float]:
        file = self.checkpoints / BEST_FILE
        if not file.is_file():
            return {"step": -1, "held_out_psnr": -math.inf}
        best: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return best

    def _drop_old(self) -> None:
        best = f"{CHECKPOINT_PREFIX}{self._best()['step']:08d}"
        for old in self._complete_checkpoints()[: -self.config.loop.keep_checkpoints]:
            if old.name != best:
                doomed = old.rename(_partial(old))  # a kill during the removal leaves nothing that looks complete
                shutil.rmtree(doomed)

    def _complete_checkpoints(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob(f"{CHECKPOINT_PREFIX}*") if path.is_dir())

    def due(self, step: int, every: int) -> bool:
        """Whether something done at intervals, and at the end, is due after `step` finished steps."""
        return bool(every) and (step % every == 0 or step == self.config.loop.steps)

    # Reporting -----------------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether this process shows no progress: all but the main one."""
        return not self.accelerator.is_main_process

    def progress(self, start_step: int) -> tqdm[Any]:
        """A bar over the steps; shows the loss terms given to `report`, and images a second through its rate."""
        return tqdm(
            initial=start_step,
            total=self.config.loop.steps,
            desc=self.stage,
            disable=self.quiet,
            mininterval=10,
            dynamic_ncols=True,
        )

    def report(self, bar: tqdm[Any], step: int, terms: Mapping[str, Tensor | float]) -> None:
        """Advance the bar and, every ten steps, show and track the terms and the share of time spent waiting for data.

        The terms are this process's. Those with a "/" in their names are tracked and not shown.
        """
        bar.update(1)
        if step % 10 and step != self.config.loop.steps:
            return
        values = {name: float(torch.as_tensor(value).detach()) for name, value in terms.items()}
        rate = bar.format_dict["rate"] or 0.0
        images = rate * self.config.loop.batch * self.config.loop.accumulate * self.accelerator.num_processes
        now = time.perf_counter()
        waiting = self._waited_s / max(1e-9, now - self._reported_at)
        self._waited_s, self._reported_at = 0.0, now
        shown = " ".join(f"{name}={value:.4g}" for name, value in values.items() if "/" not in name)
        bar.set_postfix_str(f"{shown} {images:.1f} img/s")
        self.accelerator.log({**values, "images_per_second": images, "share_waiting_for_data": waiting}, step=step)

    def finish(self) -> None:
        """Close the trackers."""
        self.accelerator.end_training()


def check_states(checkpoint: Path) -> None:
    """Raise TrainingStopped unless what accelerate would unpickle without a look holds numbers and nothing to run."""
    for file in sorted(checkpoint.glob("custom_checkpoint_*.pkl")):
        try:
            torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        except Exception as error:
            raise TrainingStopped(
                f"{file} is damaged or holds more than numbers ({type(error).__name__}) and is not loaded; "
                "remove that checkpoint and resume from the one before."
            ) from error


def _partial(path: Path) -> Path:
    """The name under which something is written, or removed, before it is renamed."""
    return path.with_name(f".{path.name}.partial")


def _set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr

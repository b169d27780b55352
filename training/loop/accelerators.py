"""The `accelerate.Accelerator` of a run, with what DeepSpeed must be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import ProjectConfiguration, is_tensorboard_available

from training.config import LoopConfig

AUTOCAST_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_accelerator(loop: LoopConfig, folder: Path) -> Accelerator:
    """The accelerator of a run. Raises ValueError for settings that it would drop without a word."""
    if loop.tracker == "tensorboard" and not is_tensorboard_available():
        raise ValueError("TensorBoard is not installed: pip install tensorboard, or pass --loop.tracker none.")
    accelerator = Accelerator(
        mixed_precision=loop.mixed_precision,
        gradient_accumulation_steps=loop.accumulate,
        log_with=None if loop.tracker == "none" else loop.tracker,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
    )
    launched = {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= set(os.environ) and "WORLD_SIZE" not in os.environ
    if launched and accelerator.num_processes == 1:
        raise ValueError(  # only for several processes does `accelerate launch --cpu` set a port
            "`accelerate launch --cpu` was asked for several processes and has started one: on a CPU it needs an MPI. "
            "Use accelerate launch --config_file training/accelerate/two-cpu-processes.yaml, or torchrun."
        )
    if accelerator.gradient_accumulation_steps != loop.accumulate:
        raise ValueError(
            f"accelerate accumulates {accelerator.gradient_accumulation_steps} micro-steps and the run "
            f"{loop.accumulate}; pass --gradient_accumulation_steps {loop.accumulate} to `accelerate launch`."
        )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _set_up_deepspeed(accelerator.state.deepspeed_plugin.deepspeed_config, loop)
    return accelerator


def _set_up_deepspeed(settings: dict[str, Any], loop: LoopConfig) -> None:
    """Batch and clipping of the run, and float32 weights under autocast, so that the average is as exact as elsewhere.

    Inside its engine DeepSpeed replaces an autocast by its own settings: they are the same ones.
    """
    settings["train_micro_batch_size_per_gpu"] = loop.batch
    settings["gradient_clipping"] = loop.clip_norm
    dtype = AUTOCAST_DTYPES[loop.mixed_precision]
    for name in ("bf16", "fp16"):
        settings[name] = {"enabled": False}
    if dtype:
        settings["torch_autocast"] = {"enabled": True, "dtype": str(dtype).removeprefix("torch.")}

"""Export of finished weights: fp16 safetensors, written beside their place and renamed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator


def export(accelerator: Accelerator, models: Mapping[str, Any], folder: Path) -> Path:
    """Save each model or pipeline as `folder/name` in fp16; replaces an earlier export as a whole.

    The given objects keep their own precision. Only the main process writes.
    """
    if accelerator.is_main_process:
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name, model in models.items():
            copy.deepcopy(model).to("cpu", torch.float16).save_pretrained(partial / name, safe_serialization=True)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    accelerator.wait_for_everyone()
    return folder

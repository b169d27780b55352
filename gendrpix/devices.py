"""Devices and dtypes by name, for the command line, the page and the evaluation alike."""

from __future__ import annotations

import torch


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" prefers CUDA, then MPS. Raises ValueError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, usable in there.items() if usable)
    if not there[name]:
        raise ValueError(f"This machine has no {name} device that PyTorch can use; choose --device auto or cpu.")
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype:
    """The dtype of that name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]

"""What a benchmark's figures are read against: the device, the versions, and what a matrix product reaches on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from gendrpix.devices import describe_device
from gendrpix.metrics.profiling import Clock, timed

CEILING_SIDE = {"cuda": 8192, "mps": 2048, "cpu": 1024}
"""Sides of the square matrices whose product is the ceiling, by device."""


def measure_ceiling(device: torch.device, dtype: torch.dtype, clock: Clock = "wall") -> float:
    """FLOP/s of the fastest of seven products of two square matrices: what the device gives to PyTorch at best."""
    side = CEILING_SIDE.get(device.type, 2048)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(timed(lambda: a @ b, device, warmup=2, repeats=7, clock=clock).all_seconds)
    return 2 * side**3 / best


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Device, driver and versions; nothing that names the machine."""
    about: dict[str, Any] = {
        "device": describe_device(device),
        "processor": _first_line_with("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }
    if device.type == "cuda":
        about["cuda"] = torch.version.cuda
        about["driver"] = _first_line_with("/proc/driver/nvidia/version", "NVRM version")
    return about


def _first_line_with(path: str, key: str) -> str | None:
    """What stands behind "key :" in a file of the system, or None."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key) and ":" in line), None)

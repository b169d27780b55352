"""How long a stage takes: on this device by measurement, on named GPUs by their data sheets."""

from __future__ import annotations

import time

import torch

from training.config import LoopConfig

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARE_OF_PEAK = 0.4
"""Of the speed of a large matrix product, what a training step is expected to reach."""
LONGEST_HOURS = 24 * 30
"""A device that takes longer is not meant for a stage."""
GPU_PEAKS = {"A100": 312e12, "H100 SXM": 989e12, "RTX 4090": 165e12}
"""Dense bfloat16 operations a second with float32 sums, by NVIDIA's data sheets."""


def describe_speed(flops: int, loop: LoopConfig) -> list[str]:
    """Lines with images a second and hours; on named GPUs where this device would take longer than a month.

    flops: operations of one micro-step of one process.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # in float32 on a CPU: few compute in half precision, and the others take minutes for one product
    dtype = DTYPES[loop.mixed_precision] if device == "cuda" else torch.float32
    speed = _matmul_speed(device, dtype)
    if hours_on(speed, flops, loop) < LONGEST_HOURS:
        measured = f"a matrix product reaches here ({device}, {str(dtype).removeprefix('torch.')})"
        return [f"speed          {_describe(speed, flops, loop)} of the {speed / 1e12:.2g} TFLOP/s that {measured}"]
    lines = [f"speed          this device ({device}) is not meant for such a run: it would take months; use a GPU"]
    for name, peak in GPU_PEAKS.items():
        lines.append(f"  {name:<12} {_describe(peak, flops, loop)} of {peak / 1e12:.0f} TFLOP/s (data sheet)")
    return lines


def hours_on(peak: float, flops: int, loop: LoopConfig) -> float:
    """Hours that the stage's steps take on one device of that peak speed, in operations a second."""
    return flops * loop.accumulate * loop.steps / (SHARE_OF_PEAK * peak) / 3600


def _describe(peak: float, flops: int, loop: LoopConfig) -> str:
    images_per_s = loop.batch * SHARE_OF_PEAK * peak / flops
    hours = hours_on(peak, flops, loop)
    return f"about {images_per_s:.3g} images/s, {hours:,.1f} hours on one, if a step reaches {SHARE_OF_PEAK:.0%}"


def _matmul_speed(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    side = 8192 if device == "cuda" else 512
    a = torch.ones(side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds[1:]))

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


def pick_dtype(name: str, device: torch.device | None = None) -> torch.dtype:
    """The dtype of that name; "auto" is the fastest on the device that changes pixels by less than 1/255 on average.

    docs/performance measures that. CUDA: bfloat16 where the GPU computes in it, else float16; the CPU: bfloat16
    where it multiplies matrices in it; MPS: float32.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device is not None and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    cpu = device is None or device.type == "cpu"
    return torch.bfloat16 if cpu and cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AMX, AVX512-BF16); others are slower in it than in float32."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


def describe_device(device: torch.device) -> str:
    """The device as a report names it: "cpu (2 threads)", "cuda (NVIDIA H100)", "mps"."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
    return device.type

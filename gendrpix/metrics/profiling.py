"""Time and peak memory of a call."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import psutil
import torch

T = TypeVar("T")
SAMPLE_S = 0.002
"""Pause between two readings of the resident set, in seconds, where its peak cannot be reset."""


# Time --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Runs:
    """How often something is run to be timed. Raises ValueError for impossible numbers."""

    warmup: int = 1
    """Runs at the same size that are not counted."""
    repeats: int = 1
    """Counted runs; the time is their median."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.repeats < 1:
            raise ValueError(f"warmup is {self.warmup} and repeats {self.repeats}; expected at least 0 and at least 1.")


ONCE = Runs()
"""One run that is not counted, and one that is."""


@dataclass(frozen=True, kw_only=True)
class Timing(Generic[T]):
    """Time of repeated runs of one function, the device idle before and after each."""

    result: T
    """What the last run gave back."""
    seconds: float
    """Median of `all_seconds`."""
    all_seconds: tuple[float, ...]
    warmup: int
    """Runs beforehand that are not counted."""


Clock = Literal["wall", "cpu"]
"""What a time is measured by: a clock on the wall, or the processor time of all threads, for a machine that is busy."""
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def timed(
    fn: Callable[[], T], device: torch.device | str, *, warmup: int = 1, repeats: int = 1, clock: Clock = "wall"
) -> Timing[T]:
    """Time `fn`, synchronising the device before and after every run. Raises ValueError for no runs."""
    if warmup < 0 or repeats < 1:
        raise ValueError(f"warmup is {warmup} and repeats {repeats}; expected at least 0 and at least 1.")
    for _ in range(warmup):
        fn()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        start = CLOCKS[clock]()
        result = fn()
        synchronise(device)
        seconds.append(CLOCKS[clock]() - start)
    return Timing(result=result, seconds=statistics.median(seconds), all_seconds=tuple(seconds), warmup=warmup)


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has done what it was given. Nothing to wait for on the CPU."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


# Memory ------------------------------------------------------------------------------------------------------------


@dataclass
class Peak:
    """The most memory held at one time; filled in when `measure_peak` ends."""

    bytes: int = 0
    reserved: int | None = None
    """CUDA: `max_memory_reserved`, bytes; None elsewhere."""
    method: str = ""


@contextlib.contextmanager
def measure_peak(device: torch.device | str, *, resident_bytes: int = 0) -> Iterator[Peak]:
    """Measure the peak memory of the body; the `Peak` that is yielded is complete afterwards.

    CUDA: the rise of `max_memory_allocated` above the start, plus `resident_bytes`, what was allocated before and
    belongs to what is measured (its weights). So other models on the same device do not count.
    Elsewhere: the process's peak resident set above the start, without what was there before (the weights).
    """
    device = torch.device(device)
    peak = Peak()
    gc.collect()
    if device.type == "cuda":
        yield from _cuda_peak(device, peak, resident_bytes)
        return
    _return_free_memory()
    if _reset_high_water_mark():
        start = psutil.Process().memory_info().rss
        yield peak
        peak.bytes = max(0, _high_water_mark() - start)
        peak.method = "peak resident set above the start (VmHWM)"
        return
    with _sampled_peak(peak):
        yield peak


def _cuda_peak(device: torch.device, peak: Peak, resident_bytes: int) -> Iterator[Peak]:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_allocated(device)
    yield peak
    torch.cuda.synchronize(device)
    peak.bytes = torch.cuda.max_memory_allocated(device) - start + resident_bytes
    peak.reserved = torch.cuda.max_memory_reserved(device)
    peak.method = "CUDA max_memory_allocated, with this model's weights"


def _return_free_memory() -> None:
    """Let the C library give its free memory back, so that what an earlier run left does not hide a rise."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_high_water_mark() -> bool:
    """Set Linux's VmHWM to the present resident set; False where that cannot be done or has no effect."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return bool(_high_water_mark() <= psutil.Process().memory_info().rss * 1.05)
    except (OSError, ValueError):
        return False


def _high_water_mark() -> int:
    """Linux's VmHWM, in bytes. Raises OSError or ValueError where there is none."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/self/status has no VmHWM")


@contextlib.contextmanager
def _sampled_peak(peak: Peak) -> Iterator[None]:
    """Read the resident set in a thread until the body ends."""
    process = psutil.Process()
    start = highest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(SAMPLE_S):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, name="gendrpix-memory", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    peak.bytes = max(highest, process.memory_info().rss) - start
    peak.method = f"resident set above the start, read every {SAMPLE_S * 1000:.0f} ms"

"""Figures of a restoration: time, memory, fidelity to a truth, and the grid of 8 pixels.

Pictures are (B, 3, H, W) float in [-1, 1]. The metrics that need a network or its weights are in
:mod:`gendrpix.scores`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import psutil
import torch
from torch import Tensor

from gendrpix.specs import PATCH

T = TypeVar("T")

GRID_MIN_PX = 64
"""Shortest side for the grid score: harmonics must stand apart by more than their ring's radius."""
SSIM_MIN_PX = 11
"""Side of SSIM's Gaussian window, in pixels."""
SSIM_STRIP_PX = 128
"""Rows of windows that SSIM computes at once, so that its memory does not grow with the picture's height."""
FLOOR = 1e-6
"""Amplitude added in the grid score, far below the noise of 8-bit rounding: a flat picture scores 0 dB."""
SAMPLE_S = 0.002
"""Pause between two readings of the resident set, in seconds, where its peak cannot be reset."""


# Fidelity ----------------------------------------------------------------------------------------------------------


def psnr_y(image: Tensor, truth: Tensor) -> float:
    """PSNR in dB on Y (BT.601, studio range, as the field's tables), no border crop; the mean over the batch.

    image, truth: (B, 3, H, W) float in [-1, 1]. Identical pictures get 80 dB, pyiqa's ceiling.
    """
    from pyiqa.archs.psnr_arch import PSNR

    check_pair(image, truth)
    metric = PSNR(test_y_channel=True, color_space="ycbcr")
    return float(metric(unit_range(image), unit_range(truth)).mean())


def ssim_y(image: Tensor, truth: Tensor) -> float:
    """SSIM on Y (BT.601, rounded to 8 bits as MATLAB does), 11 x 11 Gaussian window, no border crop; batch mean.

    image, truth: (B, 3, H, W) float in [-1, 1], at least 11 pixels a side. pyiqa's formula with the window as two
    passes of 11 taps: pyiqa's own takes 121 in float64, several times as long as every other metric here.
    """
    from pyiqa.archs.func_util import preprocess_rgb

    check_pair(image, truth)
    check_side(image, SSIM_MIN_PX, "SSIM")
    total, num_rows = 0.0, image.shape[-2] - SSIM_MIN_PX + 1
    for top in range(0, num_rows, SSIM_STRIP_PX):  # the map's rows, each window whole in one strip
        count = min(SSIM_STRIP_PX, num_rows - top)
        rows = slice(top, top + count + SSIM_MIN_PX - 1)
        a, b = (preprocess_rgb(unit_range(x[..., rows, :]), True, 255, "ycbcr").double() for x in (image, truth))
        total += count * float(_ssim_map(a, b).mean())
    return total / num_rows


def _ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1, H, W) float64 in [0, 255], both => (B, 1, H - 10, W - 10): Wang et al. 2004, negatives set to 0."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    taps = torch.exp(-((torch.arange(SSIM_MIN_PX, dtype=a.dtype) - SSIM_MIN_PX // 2) ** 2) / (2 * 1.5**2))
    stacked = torch.stack([a, b, a * a, b * b, a * b])  # (5, B, 1, H, W)
    for dim in (-1, -2):
        length = stacked.shape[dim] - SSIM_MIN_PX + 1
        shifted = (stacked.narrow(dim, i, length) * float(tap / taps.sum()) for i, tap in enumerate(taps))
        stacked = functools.reduce(Tensor.add_, shifted)
    mean_a, mean_b, square_a, square_b, product = stacked
    contrast = (2 * (product - mean_a * mean_b) + c2) / (square_a - mean_a**2 + square_b - mean_b**2 + c2)
    structure: Tensor = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast.relu()
    return structure


def unit_range(x: Tensor) -> Tensor:
    """[-1, 1] => [0, 1], float32, clamped: what pyiqa reads."""
    return ((x.float() + 1) / 2).clamp(0, 1)


def check_pair(image: Tensor, truth: Tensor) -> None:
    """Raise ValueError unless both have one shape."""
    if image.shape != truth.shape:
        raise ValueError(
            f"The picture has shape {tuple(image.shape)} and the truth {tuple(truth.shape)}; "
            "give a truth of the result's size."
        )


def check_side(x: Tensor, least_px: int, label: str) -> None:
    """Raise ValueError unless both sides have `least_px` pixels."""
    height, width = x.shape[-2:]
    if min(height, width) < least_px:
        raise ValueError(
            f"{label} needs at least {least_px} pixels a side; got {width} x {height}. Measure a larger picture."
        )


# The grid of 8 pixels ----------------------------------------------------------------------------------------------


def grid_score(x: Tensor) -> float:
    """By how many dB the harmonics of an 8-pixel period stand above their surroundings; the mean over the batch.

    x: (B, 3, H, W) float in [-1, 1], at least 64 pixels a side. Luminance, cropped to multiples of 8, Hann
    window, amplitudes of the 2-D spectrum. For each harmonic (k H/8, l W/8), k and l in 0..7 and not both 0:
    20 log10(mean of its 3 x 3 bins / median of the 13 x 13 bins around them without the inner 5 x 5). The score
    is the mean over the 63 harmonics. About 0 for a natural picture; JPEG blocks raise it too, so compare it with
    the input's or the truth's. Score what is saved, rounded to 8 bits: an enlarged picture has next to nothing
    at high frequencies, and without the rounding's noise its score says little.
    """
    check_side(x, GRID_MIN_PX, "The grid score")
    height, width = (side - side % PATCH for side in x.shape[-2:])
    weights = x.new_tensor((0.299, 0.587, 0.114), dtype=torch.float64)
    cropped = x[..., :height, :width].cpu().double()
    luminance = torch.einsum("bchw,c->bhw", cropped, weights.cpu())
    luminance = luminance - luminance.mean(dim=(-2, -1), keepdim=True)
    window = torch.outer(*(torch.hann_window(side, dtype=torch.float64) for side in (height, width)))
    amplitude = torch.fft.fft2(luminance * window, norm="ortho").abs() + FLOOR  # (B, H, W)
    patches = _around_harmonics(amplitude)  # (B, 63, 13, 13)
    inner = patches[..., 5:8, 5:8].mean(dim=(-2, -1))
    ring = torch.ones(13, 13, dtype=torch.bool)
    ring[4:9, 4:9] = False
    surroundings = patches[..., ring].quantile(0.5, dim=-1)
    return float((20 * torch.log10(inner / surroundings)).mean())


def _around_harmonics(amplitude: Tensor) -> Tensor:
    """(B, H, W) => (B, 63, 13, 13): the bins about each harmonic, wrapping."""
    height, width = amplitude.shape[-2:]
    reach = torch.arange(-6, 7)
    rows = (torch.arange(PATCH)[:, None] * (height // PATCH) + reach) % height  # (8, 13)
    columns = (torch.arange(PATCH)[:, None] * (width // PATCH) + reach) % width  # (8, 13)
    patches = amplitude[:, rows[:, None, :, None], columns[None, :, None, :]]  # (B, 8, 8, 13, 13)
    return patches.flatten(1, 2)[:, 1:]  # without the mean's own bin


# Seams -------------------------------------------------------------------------------------------------------------


def seam_score(x: Tensor, rows: Sequence[int], columns: Sequence[int], period: int = PATCH) -> float:
    """By how many dB the steps across given lines stand above those across their neighbours; 0 without a seam.

    x: (B, C, H, W). rows, columns: the lines lie before these positions. A line's neighbours are the lines one and two
    periods before and after it, so that a pattern of the grid of 8 pixels is no seam. 20 log10 of the ratio of the mean
    steps. Raises ValueError where no line has neighbours.
    """
    at_lines, beside = [], []
    for lines, steps in ((rows, x.diff(dim=-2).abs().mean((0, 1, 3))), (columns, x.diff(dim=-1).abs().mean((0, 1, 2)))):
        near = [-2 * period, -period, period, 2 * period]
        for line in lines:
            places = [line + distance - 1 for distance in near if 0 <= line + distance - 1 < len(steps)]
            places = [place for place in places if place + 1 not in lines]
            if places and 0 < line <= len(steps):
                at_lines.append(float(steps[line - 1]))
                beside.append(float(steps[places].mean()))
    if not at_lines:
        raise ValueError(f"No line has a neighbour {period} positions away; got rows {rows} and columns {columns}.")
    return 20 * math.log10((statistics.fmean(at_lines) + FLOOR) / (statistics.fmean(beside) + FLOOR))


# Time --------------------------------------------------------------------------------------------------------------


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

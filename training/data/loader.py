"""The order of the samples, and their batches."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from training.data.crops import Crops, IndexedCrops
from training.data.stream import PhotoStream, StreamedCrops


def step_sampler(
    start_step: int, steps: int, batch: int, process_index: int = 0, num_processes: int = 1
) -> Iterator[list[int]]:
    """The sample indices of this process's batch for every step from start_step to steps - 1.

    In step s process p of N sees `s N batch + p batch + (0 ... batch - 1)`: together what one process with
    the batch N times as large sees. A resume starts at its step and sees what it would have seen.
    """
    if batch < 1 or num_processes < 1 or not 0 <= process_index < num_processes or start_step < 0:
        raise ValueError(
            f"start_step {start_step}, batch {batch}, process {process_index} of {num_processes}: expected a "
            "start of at least 0, a batch of at least 1 and a process index below the number of processes."
        )
    firsts = ((step * num_processes + process_index) * batch for step in range(start_step, steps))
    return (list(range(first, first + batch)) for first in firsts)


def open_loader(
    crops: Dataset[dict[str, Tensor]] | PhotoStream,
    batch: int,
    steps: int,
    *,
    start_step: int = 0,
    process_index: int = 0,
    num_processes: int = 1,
    num_workers: int = 0,
    pinned: bool = False,
) -> DataLoader[dict[str, Tensor]]:
    """This process's batches of steps start_step to steps - 1, in the order of `step_sampler`."""
    how: dict[str, Any] = {
        "num_workers": num_workers,
        "prefetch_factor": 4 if num_workers else None,
        "pin_memory": pinned,
        "multiprocessing_context": "fork" if num_workers and os.name == "posix" else None,
    }
    place: dict[str, int] = {"process_index": process_index, "num_processes": num_processes}
    if isinstance(crops, PhotoStream):
        settings = {"batch": batch, "steps": steps, "start_step": start_step, **place}
        streamed = StreamedCrops(crops.photos, crops.settings, seed=crops.seed, **settings)
        return DataLoader(streamed, batch_size=batch, **how)
    sampler = step_sampler(start_step, steps, batch, **place)
    if isinstance(crops, IndexedCrops):
        sampler = crops.ensured(sampler)
    return DataLoader(crops, batch_sampler=sampler, **how)


def sample_batches(
    crops: Crops, count: int, device: torch.device, *, start: int = 0, batch: int = 8
) -> Iterator[dict[str, Tensor]]:
    """`count` samples from `start` on, collated and moved: for what looks at data before and after training."""
    samples = crops.samples(start, count)
    for first in range(start, start + count, batch):
        chosen = itertools.islice(samples, batch)
        items = [sample.item(index) for index, sample in enumerate(chosen, start=first)]
        yield {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}


def fitting_batches(
    task: str, crops: Crops, count: int, device: torch.device, *, start: int = 0, quiet: bool = False
) -> Iterator[dict[str, Tensor]]:
    """`count` samples from `start` on, batch by batch, behind a progress bar that names the task."""
    with tqdm(total=count, desc=task, unit="crop", disable=quiet, mininterval=10, dynamic_ncols=True) as bar:
        for batch in sample_batches(crops, count, device, start=start):
            yield batch
            bar.update(len(batch["lq"]))

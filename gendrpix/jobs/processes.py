"""The processes that share one job."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from gendrpix.jobs.tasks import Task

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes that share a job, as `torchrun`, `accelerate launch` or MPI started them; or one alone."""

    index: int = 0
    count: int = 1
    device: torch.device

    def share(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """This process's tasks: every `count`-th. Raises ValueError unless all processes see the same list."""
        names = b"\0".join(os.fsencode(task.target) for task in tasks)
        if len(set(self.gather([hashlib.sha256(names).hexdigest()]))) > 1:
            raise ValueError("The processes see different files; give all the same inputs and one shared folder.")
        return tasks[self.index :: self.count]

    def gather(self, items: list[T]) -> list[T]:
        """All processes' items, in every process; waits for all."""
        if self.count == 1:
            return items
        from accelerate.utils import gather_object

        gathered: list[T] = gather_object(items)
        return gathered

    def leave(self) -> None:
        """End the processes' connection."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


def join_process_group(device: torch.device) -> ProcessGroup:
    """The processes that the environment tells of; on CUDA each takes its own device.

    They talk over gloo, for as long as the slowest needs: only file lists and reports are exchanged.
    """
    counts = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    if all(count == "1" for count in counts):
        return ProcessGroup(device=device)
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu", backend="gloo", timeout=timedelta(days=30))
    own = state.device if state.device.type == device.type else device
    return ProcessGroup(index=state.process_index, count=state.num_processes, device=own)

"""How much memory a restorer takes: a rehearsal on the meta device, which allocates nothing, and what is free.

The rehearsal runs the network's own code with its own attention and dtype on tensors without contents, and books
every storage when it comes and when it goes. What kernels need beside their results is added for the CPU, from
measurements; on CUDA, where it depends on the libraries, nothing is added.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gendrpix.image.picture import Limits
from gendrpix.restore.network import OneStepNetwork

M = TypeVar("M", bound=nn.Module)

TRACED_PX = 512
"""Side of the rehearsal. Beyond it memory grows with the pixels, whatever the attention: none keeps its scores."""
SMALL_PX = TRACED_PX - 8
"""The same for fewer pixels: feed-forward layers then work in one piece, which takes more for each of them."""
KERNEL_BYTES = {"AVX512": {torch.float32: 330_000, torch.bfloat16: 370_000}}
"""What the CPU's libraries take once for every layer, whatever its size: kernels compiled for it. Measured."""
OTHER_KERNEL_BYTES = 230_000
"""The same where the processor has no AVX-512. Measured with AVX2."""
CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)
DECODED_BYTES, STORED_BYTES = 40, 12
"""Bytes a pixel while a whole picture is decoded, and while a part is cut from one."""
UNBOUNDED = 10**12
"""More pixels than any result has: the disk bounds them."""
MMAP_THRESHOLD = -3
"""Number of glibc's setting M_MMAP_THRESHOLD (malloc.h)."""
RETURNED_BYTES, USUAL_BYTES = 2**20, 2**25
"""Blocks from this size on are given back at once in tight memory; and the size to which glibc lets it grow."""

_rates: weakref.WeakKeyDictionary[Any, dict[tuple[object, ...], float]] = weakref.WeakKeyDictionary()


def available_bytes(device: torch.device | str) -> int:
    """What can still be allocated. CUDA: free memory and the allocator's unused cache; else the machine's available
    memory, or what the container may still take."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min(int(psutil.virtual_memory().available), container_bytes())


def container_bytes(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container (Linux, cgroup 2) may still take; without a limit, more than any machine has."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        return max(0, limit - int((folder / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such container, or the limit is the word "max"
        return 2**62


def machine_limits() -> Limits:
    """What pictures may be where nothing but this machine bounds them: what its free memory can decode."""
    free = max(1, available_bytes(torch.device("cpu")))
    return Limits(
        max_bytes=max(1, free // 4),
        max_pixels=max(1, free // DECODED_BYTES),
        max_read_pixels=max(1, free // STORED_BYTES),
        max_output_pixels=UNBOUNDED,
        max_seconds=3600.0,
    )


@contextlib.contextmanager
def tight_memory(device: torch.device) -> Iterator[None]:
    """On the CPU with glibc, give freed blocks back to the system at once, which keeps some of up to 32 MB otherwise.

    It costs time where pictures are small. What it saves is in docs/performance; the rest can be predicted.
    """
    library = None
    if device.type == "cpu":
        with contextlib.suppress(OSError):  # not glibc
            library = ctypes.CDLL("libc.so.6")
    if library is None:
        yield
        return
    library.mallopt(MMAP_THRESHOLD, RETURNED_BYTES)
    library.malloc_trim(0)
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, USUAL_BYTES)


def pass_bytes(network: OneStepNetwork, pixels: int, *, guided: bool = False, batched: bool = True) -> float:
    """Peak bytes of a pass over so many (padded) pixels, the input and the result with it, above the weights.

    guided: PadCFG, both branches as one batch or one after the other. Rehearsed once for each way of working.
    """
    known = _rates.setdefault(network, {})
    processors = tuple(type(processor).__name__ for processor in network.unet.attn_processors.values())
    side = TRACED_PX if pixels >= TRACED_PX**2 else SMALL_PX
    key = (guided, batched, network.unet.dtype, processors, side)
    if key not in known:
        known[key] = trace_bytes_per_pixel(network, guided=guided, batched=batched, side=side)
    return known[key] * pixels


def fixed_bytes(network: OneStepNetwork) -> int:
    """Bytes that a process's first restoration takes beside what grows with the pixels."""
    if network.device.type != "cpu":
        return 0
    parts = [network.unet]
    if network.vae is not None:
        parts += [network.vae.decoder, *([network.vae.encoder] if network.restorer.reads == "latent" else [])]
    num_layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for part in parts for module in part.modules())
    known = KERNEL_BYTES.get(torch.backends.cpu.get_cpu_capability(), {})
    return num_layers * known.get(network.unet.dtype, OTHER_KERNEL_BYTES)


def trace_bytes_per_pixel(network: OneStepNetwork, *, guided: bool, batched: bool, side: int = TRACED_PX) -> float:
    """The bytes a pixel that tensors alone take at most, by running the network on the meta device."""
    given = side - 8 if guided else side  # PadCFG pads by 8
    return trace_peak_memory(network, given, given, guided=guided, batched=batched) / side**2


def trace_peak_memory(
    network: OneStepNetwork,
    height: int,
    width: int,
    *,
    guided: bool = False,
    batched: bool = True,
    vae_tile_px: int | None = None,
) -> int:
    """The bytes that tensors alone take at most in one restoration to that size."""
    actor = without_contents(network)
    tracker = MemoryTracker(reorders=network.device.type == "cpu")
    with torch.inference_mode(), actor.vae_tiles(vae_tile_px), tracker:
        pixels = torch.empty(1, 3, height, width, dtype=network.unet.dtype, device="meta")
        if guided:
            actor.restore_guided(pixels, 1.5, batched=batched)
        else:
            actor.restore(pixels)
    return tracker.peak


def without_contents(network: OneStepNetwork) -> OneStepNetwork:
    """The network on the meta device, attention and all; its own weights are neither moved nor copied."""
    kind: Any = type(network)
    actor: OneStepNetwork = kind(
        unet=_shadow(network.unet),
        vae=None if network.vae is None else _shadow(network.vae),
        prompts=network.prompts.to("meta"),
        form=network.config.form,
        timestep=network.config.timestep,
        pattern_tokens=network.config.pattern_tokens,
        model=network.config.model,
    )
    return actor


def _shadow(module: M) -> M:
    """A copy whose parameters and buffers are on the meta device."""
    module = getattr(module, "_orig_mod", module)  # what torch.compile has wrapped
    memo: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=False) for one in module.parameters()
    }
    memo |= {id(one): torch.empty_like(one, device="meta") for one in module.buffers()}
    return copy.deepcopy(module, memo)


class MemoryTracker(TorchDispatchMode):
    """Books the storages of all tensors that operations give back; `peak` is the most that lived at one time.

    reorders: with the copies that oneDNN makes of what a convolution reads and writes, in its own order of channels,
    where the weights do not lie in channels-last order.
    """

    def __init__(self, *, reorders: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._reorders = reorders
        self._living: dict[int, int] = {}
        self._now = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and book what it gives back."""
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._book(result.untyped_storage())
        copied = 0
        if self._reorders and func in CONVOLUTIONS and not args[1].is_contiguous(memory_format=torch.channels_last):
            copied = args[0].nbytes + results.nbytes
        self.peak = max(self.peak, self._now + copied)
        return results

    def _book(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._living:
            self._living[key] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._strike, key)

    def _strike(self, key: int) -> None:
        self._now -= self._living.pop(key)


def weight_bytes(network: OneStepNetwork) -> int:
    """Bytes of the network's parameters and buffers."""
    modules = [module for module in (network.unet, network.vae) if module is not None]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.nbytes for tensor in tensors)

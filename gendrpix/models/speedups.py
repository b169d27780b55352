"""Named ways to compute faster. docs/performance has each one's gain and how far it changes pixels.

The dtype is the largest of them and an option of its own (`gendrpix.devices.pick_dtype`). What needs CUDA is refused
elsewhere with a sentence; it could not be run where this was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch

from gendrpix.specs import Speedup

if TYPE_CHECKING:
    from gendrpix.restore.pipelines import RestorerPipeline

FP8_CAPABILITY = (8, 9)
"""The first CUDA compute capability with products in 8-bit floats (Ada, Hopper)."""


class Way(NamedTuple):
    """One way to compute faster."""

    apply: Callable[[RestorerPipeline], None]
    needs_cuda: bool = False


def lay_out_vae(pipeline: RestorerPipeline) -> None:
    """The autoencoder's weights with the channels last in memory, as convolutions read them."""
    if pipeline.vae is not None:
        pipeline.vae.to(memory_format=torch.channels_last)


def lay_out_unet(pipeline: RestorerPipeline) -> None:
    """The same for the UNet."""
    pipeline.unet.to(memory_format=torch.channels_last)


def fuse(pipeline: RestorerPipeline) -> None:
    """Queries, keys and values by one product in place of three; the attention's kind is kept."""
    kind = pipeline.attention
    pipeline.unet.fuse_qkv_projections()
    if kind is not None:
        pipeline.set_attention(kind)


def compile_unet(pipeline: RestorerPipeline) -> None:
    """`torch.compile` for any size: the first call takes a minute, and sizes that differ much take another."""
    pipeline.unet.compile(dynamic=True)


def capture(pipeline: RestorerPipeline) -> None:
    """`torch.compile` with CUDA graphs: each size is compiled and captured once."""
    pipeline.unet.compile(mode="reduce-overhead", dynamic=False)


def quantise(pipeline: RestorerPipeline) -> None:
    """The UNet's linear layers in 8-bit floats, scaled at every call, by torchao."""
    if torch.cuda.get_device_capability(pipeline.device) < FP8_CAPABILITY:
        raise ValueError("fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper); leave it out.")
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_
    except ImportError as error:
        raise ValueError("fp8 needs the package torchao; install it with pip install torchao, or leave fp8 out.") from (
            error
        )
    quantize_(pipeline.unet, Float8DynamicActivationFloat8WeightConfig())


WAYS: Mapping[Speedup, Way] = MappingProxyType(
    {
        "channels_last_vae": Way(lay_out_vae),
        "channels_last_unet": Way(lay_out_unet),
        "fused": Way(fuse),
        "fp8": Way(quantise, needs_cuda=True),
        "compiled": Way(compile_unet),
        "graphs": Way(capture, needs_cuda=True),
    }
)
"""In the order in which they are applied: what is compiled must not change any more."""


def speed_up(pipeline: RestorerPipeline, names: Sequence[Speedup]) -> None:
    """Apply the named ways to a pipeline that is on its device, in place.

    Raises ValueError for an unknown name, two kinds of compilation, and what this device cannot do.
    """
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise ValueError(f"The speed-up is {unknown[0]!r}; expected some of {', '.join(WAYS)}.")
    if "compiled" in names and "graphs" in names:
        raise ValueError("The speed-ups 'compiled' and 'graphs' both compile the network; choose one of them.")
    for name, way in WAYS.items():
        if name not in names:
            continue
        if way.needs_cuda and pipeline.device.type != "cuda":
            raise ValueError(
                f"The speed-up {name!r} needs a CUDA device, this is {pipeline.device.type}; leave it out."
            )
        way.apply(pipeline)

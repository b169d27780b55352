"""Named ways to compute faster. docs/performance has each one's gain and how far it changes pixels.

The dtype is the largest of them and an option of its own (`gendrpix.devices.pick_dtype`). What needs CUDA is refused
elsewhere with a sentence; it could not be run where this was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from gendrpix.models.attention import GridProcessor
from gendrpix.specs import Speedup

FP8_CAPABILITY = (8, 9)
"""The first CUDA compute capability with products in 8-bit floats (Ada, Hopper)."""


class Way(NamedTuple):
    """One way to compute faster."""

    apply: Callable[[UNet2DConditionModel, nn.Module | None], None]
    """(UNet, autoencoder or None), changed in place."""
    needs_cuda: bool = False


def lay_out_vae(_: UNet2DConditionModel, vae: nn.Module | None) -> None:
    """The autoencoder's weights with the channels last in memory, as convolutions read them."""
    if vae is not None:
        vae.to(memory_format=torch.channels_last)


def lay_out_unet(unet: UNet2DConditionModel, _: nn.Module | None) -> None:
    """The same for the UNet."""
    unet.to(memory_format=torch.channels_last)


def fuse(unet: UNet2DConditionModel, _: nn.Module | None) -> None:
    """Queries, keys and values by one product in place of three; the attention's kind is kept."""
    kept = {name: one for name, one in unet.attn_processors.items() if isinstance(one, GridProcessor)}
    unet.fuse_qkv_projections()
    unet.set_attn_processor({**unet.attn_processors, **kept})


def compile_unet(unet: UNet2DConditionModel, _: nn.Module | None) -> None:
    """`torch.compile` for any size: the first call takes a minute, and sizes that differ much take another."""
    unet.compile(dynamic=True)


def capture(unet: UNet2DConditionModel, _: nn.Module | None) -> None:
    """`torch.compile` with CUDA graphs: each size is compiled and captured once."""
    unet.compile(mode="reduce-overhead", dynamic=False)


def quantise(unet: UNet2DConditionModel, _: nn.Module | None) -> None:
    """The UNet's linear layers in 8-bit floats, scaled at every call, by torchao."""
    if torch.cuda.get_device_capability(unet.device) < FP8_CAPABILITY:
        raise ValueError("fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper); leave it out.")
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_
    except ImportError as error:
        raise ValueError("fp8 needs the package torchao; install it with pip install torchao, or leave fp8 out.") from (
            error
        )
    quantize_(unet, Float8DynamicActivationFloat8WeightConfig())


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


def speed_up(unet: UNet2DConditionModel, vae: nn.Module | None, device: torch.device, names: Sequence[Speedup]) -> None:
    """Apply the named ways to networks that are on `device`, in place.

    names: as `gendrpix.settings.restoration.checked_speedups` lets through. Raises ValueError for what this device
    cannot do.
    """
    for name, way in WAYS.items():
        if name not in names:
            continue
        if way.needs_cuda and device.type != "cuda":
            raise ValueError(f"The speed-up {name!r} needs a CUDA device, this is {device.type}; leave it out.")
        way.apply(unet, vae)

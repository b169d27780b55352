"""Super-resolution networks of others, built without their weights, to time beside the restorers.

Their code comes from the package spandrel (MIT), which is optional: `pip install "gendrpix[peers]"`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PEER_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class PeerSpec:
    """A network that enlarges (B, 3, H, W) in [0, 1] four times."""

    name: str
    label: str
    module: str
    """Where spandrel keeps it."""
    class_name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


PEERS: Mapping[str, PeerSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            PeerSpec(
                name="rrdbnet",
                label="RRDBNet (Real-ESRGAN x4plus)",
                module="spandrel.architectures.ESRGAN",
                class_name="ESRGAN",
                arguments={"num_filters": 64, "num_blocks": 23, "scale": PEER_SCALE},
            ),
            PeerSpec(
                name="compact",
                label="Compact (realesr-general-x4v3)",
                module="spandrel.architectures.Compact",
                class_name="Compact",
                arguments={"num_feat": 64, "num_conv": 32, "upscale": PEER_SCALE},
            ),
        )
    }
)


def build_peer(name: str) -> nn.Module:
    """The network with random weights, ready for inference. Raises ValueError where spandrel is missing."""
    spec = PEERS[name]
    try:
        found = getattr(importlib.import_module(spec.module), spec.class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'{spec.label} needs the package spandrel, 0.4 or later; install it with pip install "gendrpix[peers]".'
        ) from error
    network: nn.Module = found(**spec.arguments)
    return network.eval().requires_grad_(requires_grad=False)


def count_peer(name: str, height: int, width: int) -> tuple[int, int]:
    """(parameters, multiply-adds) for an output of height x width pixels, counted on the meta device."""
    with torch.device("meta"):
        network = build_peer(name)
        pixels = torch.empty(1, 3, height // PEER_SCALE, width // PEER_SCALE)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(pixels)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2

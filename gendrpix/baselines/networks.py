"""Super-resolution networks of others beside the restorers, built without their weights to be timed.

The convolutional ones come from the package spandrel (MIT), which is optional: `requirements-peers.txt`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gendrpix.models.networks import build_autoencoder, build_unet, predict
from gendrpix.specs import MODEL_SPECS

BASELINE_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class BaselineSpec:
    """A network that enlarges (B, 3, H, W) in [0, 1] four times."""

    name: str
    label: str
    module: str
    """Where its class is."""
    class_name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


BASELINES: Mapping[str, BaselineSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            BaselineSpec(
                name="rrdbnet",
                label="RRDBNet (Real-ESRGAN x4plus)",
                module="spandrel.architectures.ESRGAN",
                class_name="ESRGAN",
                arguments={"num_filters": 64, "num_blocks": 23, "scale": BASELINE_SCALE},
            ),
            BaselineSpec(
                name="compact",
                label="Compact (realesr-general-x4v3)",
                module="spandrel.architectures.Compact",
                class_name="Compact",
                arguments={"num_feat": 64, "num_conv": 32, "upscale": BASELINE_SCALE},
            ),
            BaselineSpec(
                name="sd21-vae4",
                label="SD 2.1, 4-channel VAE, one step (as OSEDiff)",
                module="gendrpix.baselines.networks",
                class_name="OneStepDiffusion",
            ),
        )
    }
)


class OneStepDiffusion(nn.Module):
    """Stable Diffusion 2.1 with its own autoencoder of 4 channels, one step from the enlarged picture's latent.

    What OSEDiff (arXiv 2406.08177) runs once its adapters are merged, with a prompt embedding that is given.
    """

    def __init__(self) -> None:
        super().__init__()
        spec = MODEL_SPECS["sd21-vae4"]
        self.unet = build_unet(spec, spec.latent_channels, spec.latent_channels)
        self.vae = build_autoencoder(spec)
        self.prompt = nn.Parameter(torch.zeros(1, spec.prompt_tokens, spec.prompt_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] => (B, 3, 4 h, 4 w) in [0, 1]."""
        height, width = (side * BASELINE_SCALE for side in x.shape[-2:])
        pixels = F.interpolate(x.float(), size=(height, width), mode="bicubic").to(x.dtype) * 2 - 1
        scale = self.vae.config.scaling_factor
        latent = self.vae.encode(pixels).latent_dist.mode() * scale
        restored = predict(self.unet, latent, self.prompt, timestep=MODEL_SPECS["sd21-vae4"].timestep, form="epsilon")
        decoded: Tensor = self.vae.decode(restored / scale).sample
        return (decoded / 2 + 0.5).clamp(0, 1)


def build_baseline(name: str) -> nn.Module:
    """The network with random weights, ready for inference. Raises ValueError where spandrel is missing."""
    spec = BASELINES[name]
    try:
        found = getattr(importlib.import_module(spec.module), spec.class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'{spec.label} needs the package spandrel; install it with pip install "spandrel>=0.4,<0.5".'
        ) from error
    network: nn.Module = found(**spec.arguments)
    return network.eval().requires_grad_(requires_grad=False)


def count_baseline(name: str, height: int, width: int) -> tuple[int, int]:
    """(parameters, multiply-adds) for an output of height x width pixels, counted on the meta device."""
    with torch.device("meta"):
        network = build_baseline(name)
        pixels = torch.empty(1, 3, height // BASELINE_SCALE, width // BASELINE_SCALE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(pixels)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2

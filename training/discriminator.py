"""A discriminator of small trainable heads over frozen UNet features, with logistic losses on both sides.

The paper's ablation compares backbones: none, the GenDR UNet (which sees latents) and GenDR-Adc's G1 (which sees
pixel-unshuffled pictures). Features of several depths are read from the UNet's downward half and its middle, and the
hidden maps that it is given stand before them: a first layer made for smooth pictures does not hear a faint texture.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

Features = Callable[[Tensor], list[Tensor]]
"""Hidden maps (B, C, h, w) => feature maps of several depths."""


class FrozenFeatures(nn.Module):
    """The downward half and the middle of a frozen UNet; gradients flow to its input, never to its weights."""

    def __init__(self, unet: UNet2DConditionModel, prompt: Tensor, timestep: int) -> None:
        super().__init__()
        self.unet = unet.requires_grad_(False).eval()
        self.register_buffer("prompt", prompt)
        self.prompt: Tensor
        self.timestep = timestep
        widths = list(unet.config.block_out_channels)
        self.channels = [unet.conv_in.in_channels, *widths, widths[-1]]
        """Widths of the maps that `forward` returns: the input's, one a level, the middle's."""

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """(B, C, h, w) => the same, one map a level, before its down-sampling, and the middle's."""
        unet, batch = self.unet, hidden.shape[0]
        times = torch.full((batch,), self.timestep, device=hidden.device)
        embedded = unet.time_embedding(unet.time_proj(times).to(hidden.dtype))
        prompt = self.prompt.to(hidden.dtype).expand(batch, -1, -1)
        x, maps = unet.conv_in(hidden), [hidden]
        for block in unet.down_blocks:
            crossed = {"encoder_hidden_states": prompt} if getattr(block, "has_cross_attention", False) else {}
            x, states = block(hidden_states=x, temb=embedded, **crossed)
            maps.append(states[len(block.resnets) - 1])
        maps.append(unet.mid_block(x, embedded, encoder_hidden_states=prompt))
        return maps


class DiscriminatorHeads(nn.Module):
    """One small convolutional head a feature map; the only trained part of the discriminator."""

    def __init__(self, channels: list[int], head_channels: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, width, affine=False),
                nn.Conv2d(width, head_channels, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(head_channels, head_channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(head_channels, 1, 1),
            )
            for width in channels
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps => (B, N) float32 logits: the judgements of all heads at all their places.

        In float32 under mixed precision too: the heads are small, and their gradients are not scaled.
        """
        if len(maps) != len(self.heads):
            raise ValueError(f"The discriminator has {len(self.heads)} heads but got {len(maps)} feature maps.")
        kind = maps[0].device.type
        with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
            logits = [head(feature.float()).flatten(1) for head, feature in zip(self.heads, maps, strict=True)]
        return torch.cat(logits, dim=1)

"""A discriminator of small trainable heads over frozen UNet features, with logistic losses on both sides.

The paper's ablation compares backbones: none, the GenDR UNet (which sees latents) and GenDR-Adc's G1 (which sees
pixel-unshuffled pictures). Features of several depths are read from the UNet's downward half and its middle, and the
hidden maps that it is given stand before them: a first layer made for smooth pictures does not hear a faint texture.

Logits are one tensor a head, (B, ...) each. The channels of a map differ in size by orders of magnitude and are
strongly correlated. So each map is whitened first, by a fixed linear map that is computed once from real crops;
otherwise the heads hear the strong channels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from training.initializers.least_squares import add_product, place_of_sums

Features = Callable[[Tensor], list[Tensor]]
"""Hidden maps (B, C, h, w) => feature maps of several depths."""
FLOOR = 1e-6
"""Least variance that whitening divides by, as a share of a map's largest: far below 8-bit rounding in a picture."""


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


class Whitening(nn.Module):
    """A fixed linear map of channels: principal components, each divided by its standard deviation.

    It does nothing until `set_from` has been given the moments of real maps. Its buffers are saved with the state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.components: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("components", torch.eye(channels))

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, w) float32 => the same shape, of unit covariance over real maps."""
        centred = feature - self.mean[:, None, None]
        return F.conv2d(centred, self.components[:, :, None, None])

    def set_from(self, moments: Tensor) -> None:
        """Take (C + 1, C + 1) float64 sums of products of the channels and a constant 1 over many places."""
        mean = moments[:-1, -1] / moments[-1, -1]
        covariance = moments[:-1, :-1] / moments[-1, -1] - mean[:, None] * mean
        variances, directions = torch.linalg.eigh(covariance)
        floor = (FLOOR * variances[-1]).clamp_min(torch.finfo(torch.float32).tiny)
        self.mean.copy_(mean)
        self.components.copy_((directions / variances.clamp_min(floor).sqrt()).T)


class DiscriminatorHeads(nn.Module):
    """One small convolutional head a feature map, behind its whitening; the heads alone are trained."""

    def __init__(self, channels: Sequence[int], head_channels: int = 64) -> None:
        super().__init__()
        self.whitenings = nn.ModuleList(Whitening(width) for width in channels)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, head_channels, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(head_channels, head_channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(head_channels, 1, 1),
            )
            for width in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps => each head's judgements of all places of its map, (B, h * w) float32 logits.

        In float32 under mixed precision too: the heads are small, and their gradients are not scaled.
        Raises ValueError for another number of maps than of heads.
        """
        if len(maps) != len(self.heads):
            raise ValueError(f"The discriminator has {len(self.heads)} heads but got {len(maps)} feature maps.")
        parts = zip(self.heads, self.whitenings, maps, strict=True)
        with _full_precision(maps[0]):
            return [head(whitening(feature.float())).flatten(1) for head, whitening, feature in parts]

    @torch.no_grad()
    def whiten(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Set the whitening of each map from batches of real maps. Every process must call it; the first one's is kept.

        Raises ValueError where there is no batch.
        """
        totals: list[Tensor] = []
        for maps in batches:
            for number, feature in enumerate(maps):
                rows = feature.float().movedim(1, -1).flatten(0, -2)
                rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
                if number == len(totals):
                    side, place = rows.shape[1], place_of_sums(rows.device)
                    totals.append(torch.zeros(side, side, dtype=torch.float64, device=place))
                with _full_precision(rows):
                    add_product(totals[number], rows, rows)
        if not totals:
            raise ValueError("No crops to whiten the discriminator's features by: whitening_crops must be at least 1.")
        for whitening, moments in zip(self.whitenings, totals, strict=True):
            assert isinstance(whitening, Whitening)
            whitening.set_from(moments)
            for buffer in whitening.buffers():
                buffer.copy_(broadcast(buffer))

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """As torch's own. Raises ValueError where the state is that of other heads, or of heads without whitening."""
        try:
            return super().load_state_dict(state_dict, *args, **options)
        except RuntimeError as error:
            raise ValueError(
                "The checkpoint's discriminator has other heads than this version and these settings make. Resume "
                "with the settings and the version of the run, or give another run folder."
            ) from error


@torch.no_grad()
def report_heads(real: Sequence[Tensor], fake: Sequence[Tensor], weights: Tensor) -> dict[str, Tensor]:
    """Each head's loss, and the share of pairs of which it, or all heads together, ranks the real picture higher.

    Samples of weight 0 are left out. "pairs" is the share for the mean over the heads. The heads are "input", one
    "level" each, and "middle", as `FrozenFeatures` gives its maps.
    """
    names = ["input", *(f"level{number}" for number in range(1, len(real) - 1)), "middle"]
    margins = [one.mean(1) - other.mean(1) for one, other in zip(real, fake, strict=True)]
    counted = (weights > 0).float()
    number = counted.sum().clamp_min(1.0)

    def share(margin: Tensor) -> Tensor:
        return ((margin > 0) * counted).sum() / number

    terms = {"pairs": share(torch.stack(margins).mean(0))}
    for name, one, other, margin in zip(names, real, fake, margins, strict=True):
        terms[f"head_{name}/loss"] = discriminator_loss([one], [other], weights)
        terms[f"head_{name}/pairs"] = share(margin)
    return terms


def _full_precision(tensor: Tensor) -> Any:
    """A context without autocast on a tensor's device."""
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def generator_loss(fake_logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """`softplus(-Disc(y_stu))`: the non-saturating logistic loss of the generator.

    The mean over each head's logits, then over the heads: one of many places does not outvote the others. `weights`
    (B,) weighs the samples; the mean is over all of the batch, so that it splits over processes.
    """
    return torch.stack([_weighted_mean(F.softplus(-fake), weights) for fake in fake_logits]).mean()


def discriminator_loss(
    real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor], weights: Tensor | None = None
) -> Tensor:
    """`softplus(-Disc(real)) + softplus(Disc(fake))`: the logistic loss of the discriminator; means as above."""
    pairs = zip(real_logits, fake_logits, strict=True)
    return torch.stack([_weighted_mean(F.softplus(-real) + F.softplus(fake), weights) for real, fake in pairs]).mean()


def positives(negative: Tensor, negative_probability: float) -> Tensor:
    """(B,) bool => (B,) weights with which the discriminator sees the samples: 0 for those trained with `c_neg`.

    The others share the weight of the whole, so that the expected loss is the mean over them. It is no mean over the
    ones at hand: that would differ between processes, and would have no value in a batch without any.
    """
    return (~negative).float() / (1 - negative_probability)


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of (B, ...) values, each sample's multiplied by its weight."""
    return values.mean() if weights is None else (values.flatten(1).mean(1) * weights).mean()

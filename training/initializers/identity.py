"""A start for a UNet of the "direct" form, trained from random weights: it begins by returning its input.

A UNet ends in a GroupNorm, which takes the mean and the size of every picture away; a network that must return a
whole latent would first spend its training on giving them back. Here a few groups of the last norm each hold some
channels of the input beside a large constant and its negative: what the norm divides by then hardly depends on the
picture, and the mean of the two constants' outputs is the mean that the norm took away.
"""

from __future__ import annotations

import math

import torch
from diffusers import UNet2DConditionModel
from torch import nn

STEADY = 32.0  # the constant beside which carried channels hardly move their group's deviation
LIFT = 8.0  # keeps carried channels on the straight side of SiLU


@torch.no_grad()
def start_as_identity(unet: UNet2DConditionModel) -> None:
    """Set the ends of `unet`, and the last block between them, so that `unet(z) = z` to about 1%, in place.

    The input goes through `conv_in`, the outermost skip connection and the reserved groups to `conv_out`; everything
    else keeps its random weights and starts without a say. Raises ValueError for a UNet whose last norm is too narrow.
    """
    conv_in, conv_out, norm = unet.conv_in, unet.conv_out, unet.conv_norm_out
    carried, channels = conv_in.in_channels, conv_in.out_channels
    each = channels // norm.num_groups - 2  # carried channels in a group
    last = unet.up_blocks[-1]
    mix, inner = last.resnets[-1].conv_shortcut, last.resnets[-1].conv2
    groups = math.ceil(carried / each) if each > 0 else 0
    if not 0 < groups <= norm.num_groups // 2 or carried > channels or conv_out.out_channels != carried:
        raise ValueError(
            f"A UNet with {carried} input and {conv_out.out_channels} output channels, {channels} wide with "
            f"{norm.num_groups} groups, cannot start as the identity: it would need as many output as input channels "
            "and at least half of its groups free. Use a wider UNet or the residual form."
        )
    reserved = groups * (each + 2)
    writers: list[nn.Module] = [mix, inner]
    if getattr(last, "attentions", None):
        writers.append(last.attentions[-1].proj_out)
    for layer in writers:
        for parameter in layer.parameters():  # weight and bias
            parameter[:reserved] = 0.0
    nn.init.zeros_(conv_out.weight)
    nn.init.zeros_(conv_out.bias)
    conv_in.weight[:carried] = 0.0
    conv_in.bias[:carried] = 0.0

    size = each + 2
    deviation = STEADY * math.sqrt(2 / size)  # of a group whose carried channels are zero
    skip = mix.in_channels - channels
    for group in range(groups):
        first = group * size
        norm.weight[first : first + size] = deviation
        norm.bias[first : first + size] = LIFT
        for steady, sign in ((first, 1.0), (first + 1, -1.0)):
            mix.bias[steady] = sign * STEADY
            norm.bias[steady] -= sign * STEADY
        for place, source in enumerate(range(group * each, min(carried, (group + 1) * each)), start=first + 2):
            conv_in.weight[source, source, 1, 1] = 1.0
            mix.weight[place, skip + source] = 1.0
            conv_out.weight[source, place, 1, 1] = 1.0
            conv_out.weight[source, first : first + 2, 1, 1] = -0.5

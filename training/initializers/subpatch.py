"""A small network over patches of 4 x 4 pixels, and the UNet over patches of 8 x 8 that computes the same.

A position of the UNet holds 8 x 8 pixels, so its convolutions must learn each structure anew at every place that it can
have in them. A convolution over patches of 4 x 4 pixels shares its weights between the four places, has a sixteenth of
the weights, and is at the same time a convolution over patches of 8 x 8, of four times as many channels: channel
4 c + p of the large one is channel c of the small one in quarter p. The stage `finest` trains the small network and
writes its weights into the UNet, whose other layers then add nothing to the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.specs import PATCH

PART = PATCH // 2
"""Pixels per side of a position of the small network."""
QUARTERS = 4


class SubpatchNetwork(nn.Module):
    """The finest level of a UNet over pixel-unshuffled pictures: ends and residual blocks, without attention.

    (B, 3, H, W) in [-1, 1], sides multiples of 4 => the same, its input plus what the network adds; it begins as the
    identity. Raises ValueError for a UNet whose groups of channels cannot be told apart by quarters.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        channels, groups = unet.conv_in.out_channels, unet.conv_norm_out.num_groups
        pixels, width = 3 * PART * PART, channels // QUARTERS
        eps = unet.conv_norm_out.eps
        self.conv_in = nn.Conv2d(pixels, width, 3, padding=1)
        self.down = nn.ModuleList(
            ResnetBlock2D(in_channels=width, out_channels=width, temb_channels=None, groups=groups, eps=eps)
            for _ in unet.down_blocks[0].resnets
        )
        below = unet.up_blocks[-1].resnets[0].in_channels - channels  # of the level below, none of which is heard here
        heard = groups * channels / (below + channels)
        if channels % (groups * QUARTERS) or not heard.is_integer() or channels / QUARTERS % heard:
            raise ValueError(
                f"A UNet with {channels} channels on the finest level, {below} from the next one and {groups} groups "
                "has groups that mix the two, or the quarters of a patch; use levels of one width."
            )
        self.up = nn.ModuleList(
            ResnetBlock2D(
                in_channels=width * (2 if place else 1),
                out_channels=width,
                temb_channels=None,
                groups=groups if place else int(heard),
                groups_out=groups,
                eps=eps,
                use_in_shortcut=True,
            )
            for place in range(len(unet.up_blocks[-1].resnets))
        )
        self.conv_norm_out = nn.GroupNorm(groups, width, eps=eps)
        self.conv_out = nn.Conv2d(width, pixels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        hidden = self.conv_in(F.pixel_unshuffle(picture, PART))
        skips = [hidden]
        for block in self.down:
            hidden = block(hidden, None)
            skips.append(hidden)
        hidden = self.up[0](skips.pop(), None)
        for block in self.up[1:]:
            hidden = block(torch.cat([hidden, skips.pop()], dim=1), None)
        added = self.conv_out(F.silu(self.conv_norm_out(hidden)))
        return picture + F.pixel_shuffle(added, PART)


class Shared(NamedTuple):
    """A parameter of the small network and the one of the UNet that is made of it."""

    small: Tensor
    large: Tensor
    heard: tuple[slice, ...]
    """The part of `large` that is made of `small`; the rest reads the levels below."""
    taken: Tensor
    """Of that part's shape, int64: which of `small`'s numbers stands there; their count for a zero."""
    weights: Tensor
    """(numbers + 1,) one over how often each of them stands there; the zero counts for nothing."""


@torch.no_grad()
def write_into(subpatch: SubpatchNetwork, unet: UNet2DConditionModel) -> None:
    """Make `unet`, in the residual form, compute what `subpatch` does, in place.

    Its attention and what lies deeper keep their weights; the layers that would let them be heard become zero.
    """
    for one in _shared(subpatch, unet):
        if one.large.ndim > 1:  # a norm goes on seeing the level below: its weights must be able to grow again
            one.large.zero_()
        one.large[one.heard] = F.pad(one.small.flatten(), (0, 1))[one.taken]
    first, last = unet.down_blocks[0], unet.up_blocks[-1]
    unheard = [block.time_emb_proj for block in (*first.resnets, *last.resnets)]
    unheard += [each.proj_out for level in (first, last) for each in getattr(level, "attentions", ())]
    for layer in unheard:
        for parameter in layer.parameters():
            parameter.zero_()


@torch.no_grad()
def read_from(subpatch: SubpatchNetwork, unet: UNet2DConditionModel) -> None:
    """Give `subpatch` the weights that `write_into` has written, in place; the mean, where quarters differ by now."""
    for one in _shared(subpatch, unet):
        one.small.copy_(_means(one, one.large[one.heard])[:-1].view_as(one.small))


def share_gradients(unet: UNet2DConditionModel) -> None:
    """From now on gradients keep the finest level's weights shared: each becomes the mean over its places."""
    for one in _shared(SubpatchNetwork(unet), unet):
        device = one.large.device
        here = one._replace(taken=one.taken.to(device), weights=one.weights.to(device))
        one.large.register_hook(partial(_averaged, here))


def _averaged(one: Shared, gradient: Tensor) -> Tensor:
    result = gradient.clone()
    result[one.heard] = _means(one, gradient[one.heard])[one.taken]
    return result


def _means(one: Shared, values: Tensor) -> Tensor:
    """(numbers + 1,) the mean of the values that stand for each number of `small`, and zero for its zeros."""
    sums = values.new_zeros(len(one.weights)).index_add_(0, one.taken.flatten(), values.flatten())
    return sums * one.weights


def _shared(subpatch: SubpatchNetwork, unet: UNet2DConditionModel) -> Iterator[Shared]:
    """Every parameter of `subpatch` with its place in `unet`."""
    channels = unet.conv_in.out_channels
    inner, pixels = _quarters(channels), _quarters_of_pixels()
    yield from _shared_conv(subpatch.conv_in, unet.conv_in, pixels, inner)
    blocks = zip(
        [*subpatch.down, *subpatch.up], [*unet.down_blocks[0].resnets, *unet.up_blocks[-1].resnets], strict=True
    )
    for block, place in blocks:
        read = _quarters(block.in_channels * QUARTERS)
        yield from _shared_norm(block.norm1, place.norm1)
        yield from _shared_conv(block.conv1, place.conv1, read, inner)
        yield from _shared_norm(block.norm2, place.norm2)
        yield from _shared_conv(block.conv2, place.conv2, inner, inner)
        if block.conv_shortcut is not None:
            yield from _shared_conv(block.conv_shortcut, place.conv_shortcut, read, inner)
    yield from _shared_norm(subpatch.conv_norm_out, unet.conv_norm_out)
    yield from _shared_conv(subpatch.conv_out, unet.conv_out, inner, pixels)


def _quarters(channels: int) -> Tensor:
    """(channels, 3) int64: the small network's channel, and the row and column, 0 or 1, of the quarter."""
    every = torch.arange(channels)
    return torch.stack([every // QUARTERS, every % QUARTERS // 2, every % 2], dim=1)


def _quarters_of_pixels() -> Tensor:
    """(192, 3): the same for a pixel-unshuffled picture."""
    every = torch.arange(3 * PATCH * PATCH)
    color, row, column = every // PATCH**2, every // PATCH % PATCH, every % PATCH
    return torch.stack([(color * PART + row % PART) * PART + column % PART, row // PART, column // PART], dim=1)


def _shared_conv(small: nn.Conv2d, large: nn.Conv2d, read: Tensor, written: Tensor) -> Iterator[Shared]:
    """Tap t of output quarter p and input quarter q is the small convolution's tap 2 t + q - p, where it has that."""
    side = small.kernel_size[0]
    taps = 2 * torch.arange(side) - side // 2
    rows, columns = (taps + read[None, :, axis, None] - written[:, None, axis, None] for axis in (1, 2))
    rows, columns = rows[..., :, None], columns[..., None, :]
    exists = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)  # (outputs, inputs, side, side)
    pair = written[:, None, 0] * small.in_channels + read[None, :, 0]
    taken = torch.where(exists, (pair[..., None, None] * side + rows) * side + columns, small.weight.numel())
    yield _share(small.weight, large.weight, (slice(None), slice(large.in_channels - len(read), None)), taken)
    yield _share(small.bias, large.bias, (slice(None),), written[:, 0])  # type: ignore[arg-type]


def _shared_norm(small: nn.GroupNorm, large: nn.GroupNorm) -> Iterator[Shared]:
    channels = small.num_channels * QUARTERS
    for mine, theirs in ((small.weight, large.weight), (small.bias, large.bias)):
        yield _share(mine, theirs, (slice(large.num_channels - channels, None),), torch.arange(channels) // QUARTERS)


def _share(small: Tensor, large: Tensor, heard: tuple[slice, ...], taken: Tensor) -> Shared:
    weights = 1 / taken.flatten().bincount(minlength=small.numel() + 1).clamp_min(1)
    weights[-1] = 0
    return Shared(small, large, heard, taken, weights)

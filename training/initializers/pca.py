"""A start for the small autoencoder: its weights set so that it computes the principal components of 8 x 8 patches.

Every block then adds nothing; training begins at what the best linear code of that size reaches, instead of at noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from diffusers import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_dc import ResBlock
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.specs import PATCH

COLOURS = 3
BITS = tuple(itertools.product((0, 1), (0, 1)))  # a 2 x 2 cell's (row, column), in pixel_unshuffle's order
LIFT = 2.0  # keeps the carried colours on the straight side of the decoder's last ReLU
STEADY = 32.0  # one channel's constant value, beside which the others hardly move the last norm's divisor


def principal_components(batches: Iterable[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The first principal components of 8 x 8 patches of pictures (B, 3, H, W) in [-1, 1].

    Returns the orthonormal rows (count, 192), in `pixel_unshuffle`'s order, and the standard deviations (count,).
    The mean is taken as zero: mid-grey keeps the code of a flat grey picture at zero.
    """
    size = COLOURS * PATCH**2
    moments, seen = torch.zeros(size, size, dtype=torch.float64), 0
    for pixels in batches:
        patches = F.pixel_unshuffle(pixels.double(), PATCH).movedim(1, -1).flatten(0, -2)
        moments += patches.T @ patches
        seen += len(patches)
    variances, directions = torch.linalg.eigh(moments / seen)
    rows = directions.flip(1).T[:count]
    return rows.float(), variances.flip(0)[:count].clamp_min(0).sqrt().float()


@torch.no_grad()
def start_from_components(model: AutoencoderDC, rows: Tensor, gains: Tensor) -> None:
    """Set `model` so that latent i is `gains[i]` times a patch's component i, and the decoder its inverse, in place.

    `rows` (C, 192), `gains` (C,). The encoder is exact; the decoder is to about 1%, because its last norm divides by
    a magnitude that is only nearly constant. Raises ValueError for a geometry that cannot carry the components.
    """
    _check(model, rows)
    encoder, decoder = model.encoder, model.decoder
    for block in (*encoder.modules(), *decoder.modules()):
        if isinstance(block, ResBlock):
            nn.init.zeros_(block.norm.weight)
    halved = encoder.conv_in.conv
    quartered, eighth = (encoder.down_blocks[level][-1].conv for level in (1, 2))
    for conv in (halved, quartered, eighth, encoder.conv_out, decoder.conv_in):
        _clear(conv)

    # Encoder: pixels -> 12 signals at half size -> 48 at a quarter -> the components, in the first channel of each
    # cell's four, where the three other phases are free. What the shortcuts add there is taken off again.
    for colour in range(COLOURS):
        halved.weight[colour, colour, 1, 1] = 1.0
    first = 12  # convolution rows 12 to 23: their shortcuts read channels 24 to 47, which are zero
    for signal in range(12):
        quartered.weight[first + signal, signal, 1, 1] = 1.0
    scaled = (rows * gains[:, None]).view(-1, COLOURS, 2, 2, 2, 2, 2, 2)  # component, colour, y bits, x bits
    for component, row in enumerate(scaled):
        for (a_y, a_x), (b_y, b_x), (d_y, d_x), colour in itertools.product(BITS, BITS, BITS, range(COLOURS)):
            signal = (first + colour * 4 + d_y * 2 + d_x) * 4 + b_y * 2 + b_x
            eighth.weight[component, signal, 1 + a_y, 1 + a_x] += row[colour, a_y, b_y, d_y, a_x, b_x, d_x]
        for a_y, a_x in BITS:
            eighth.weight[component, 4 * component, 1 + a_y, 1 + a_x] -= 0.25
        group = encoder.out_shortcut_average_group_size
        encoder.conv_out.weight[component, 4 * component, 1, 1] = 1.0
        encoder.conv_out.weight[component, component * group : (component + 1) * group, 1, 1] -= 1.0 / group

    # Decoder: the shortcut alone carries latent i to channel i * repeats; then up by the inverse of the above
    ups = [decoder.up_blocks[level][0] for level in (2, 1, 0)]
    for up in ups:
        _clear(up.conv)
    inverse = (rows / gains[:, None]).view(-1, COLOURS, 2, 2, 2, 2, 2, 2)
    repeats = decoder.in_shortcut_repeats
    for (a_y, a_x), (b_y, b_x), (d_y, d_x), colour in itertools.product(BITS, BITS, BITS, range(COLOURS)):
        channel = (colour * 4 + d_y * 2 + d_x) * 4 + b_y * 2 + b_x
        out = channel * 4 + a_y * 2 + a_x
        _cancel_shortcut(ups[0], out)
        for component in range(len(rows)):
            weight = inverse[component, colour, a_y, b_y, d_y, a_x, b_x, d_x]
            ups[0].conv.weight[out, component * repeats, 1, 1] += weight
    for up, carried in ((ups[1], 12), (ups[2], COLOURS)):
        for out in range(carried * 4):
            _cancel_shortcut(up, out)
            up.conv.weight[out, out, 1, 1] += 1.0
    channels = decoder.norm_out.weight.shape[0]
    steady = channels - 1
    for phase in range(4):
        _cancel_shortcut(ups[2], 4 * steady + phase)
        ups[2].conv.bias[4 * steady + phase] = STEADY
    for block in decoder.up_blocks[0]:
        if isinstance(block, ResBlock):
            block.conv1.weight[:, steady] = 0.0
    _clear(decoder.conv_out)
    decoder.norm_out.weight[steady] = 0.0
    decoder.norm_out.weight[:COLOURS] = STEADY / channels**0.5
    decoder.norm_out.bias[:COLOURS] = LIFT
    for colour in range(COLOURS):
        decoder.conv_out.weight[colour, colour, 1, 1] = 1.0
        decoder.conv_out.bias[colour] = -LIFT


def _check(model: AutoencoderDC, rows: Tensor) -> None:
    config = model.config
    widths, decoder_widths = config.encoder_block_out_channels, config.decoder_block_out_channels
    fits = (
        len(widths) == len(decoder_widths) == 4
        and config.encoder_layers_per_block[0] == 0
        and config.decoder_layers_per_block[0] > 0
        and widths[1] >= 64
        and widths[2] == widths[3] >= 96
        and decoder_widths[0] > COLOURS
        and decoder_widths[1] >= 12
        and decoder_widths[2] >= 48
        and len(rows) == config.latent_channels
        and 4 * len(rows) <= widths[3]
    )
    if not fits:
        raise ValueError(
            f"Principal components need an autoencoder of four levels, the encoder's first without blocks, at least "
            f"(-, 64, 96, 96) channels wide and the decoder (4, 12, 48, -); this one is {tuple(widths)} and "
            f'{tuple(decoder_widths)} with {config.latent_channels} latent channels. Use start "random".'
        )


def _clear(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _cancel_shortcut(up: nn.Module, out: int) -> None:
    """Take off what the up-block's shortcut, a repetition of its input channels, adds to a convolution row."""
    conv, repeats = up.conv, int(up.repeats)  # type: ignore[arg-type]
    conv.weight[out, out // repeats, 1, 1] -= 1.0  # type: ignore[operator,index,union-attr]

"""GenDR-Pix in ncnn's format: the layers of `gendrpix.engines.graph` one by one."""

from __future__ import annotations

import torch
from torch import nn

from gendrpix.engines.enlarge import SCALE
from gendrpix.engines.graph import Branch, Level, Restorer, UNet
from gendrpix.engines.layers import PromptAttention, Resnet, Transformer, TransformerBlock
from gendrpix.engines.ncnn_layers import NcnnNetwork, Value
from gendrpix.engines.ncnn_windows import LONGEST, add_attention
from gendrpix.engines.windows import WindowedAttention
from gendrpix.models.pattern import WIDER
from gendrpix.specs import PATCH

REFLECT = 2
"""ncnn's `Padding` that mirrors."""
INPUT, OUTPUT = "data", "output"
"""Names that Upscayl and Real-ESRGAN's programs look for."""

LEVELS = 127.5
"""Levels of 255 in a step of 1 between -1 and 1."""
LEAST_ENERGY = 6.2e-5
"""Squared levels; a pattern fainter than a hundredth of a level may stay. The smallest that 16 bits hold well."""


def build_network(restorer: Restorer) -> NcnnNetwork:
    """The restorer's layers and weights."""
    if restorer.form != "residual":
        raise ValueError(
            f"The form {restorer.form!r} cannot be exported to ncnn; expected 'residual', or choose --format onnx."
        )
    net = NcnnNetwork()
    picture = net.add("Input", [], {}, to=INPUT)
    windowed = any(isinstance(one, WindowedAttention) and one.window is not None for one in restorer.modules())
    ramp = net.constant(torch.arange(LONGEST + 1, dtype=torch.float32)) if windowed else ""
    pixels = add_enlarge(net, restorer, picture)
    mixed = None
    for branch in restorer.branches:
        restored = add_branch(net, restorer, pixels, branch, ramp)
        restored = restored if branch.weight == 1 else net.binary("mul", restored, branch.weight)
        mixed = restored if mixed is None else net.binary("add", mixed, restored)
    assert mixed is not None
    clamped = net.add("Clip", [mixed], {0: -1.0, 1: 1.0})
    net.add("BinaryOp", [net.binary("add", clamped, 1.0)], {0: 2, 1: 1, 2: 0.5}, to=OUTPUT)
    return net


def add_enlarge(net: NcnnNetwork, restorer: Restorer, picture: str) -> str:
    """(3, h, w) in [0, 1] => (3, 4 h, 4 w) in [-1, 1]."""
    filters = restorer.enlarge.filters
    signed = net.binary("sub", net.binary("mul", picture, 2.0), 1.0)
    inside = net.binary("add", net.binary("mul", picture, 0.0), 1.0)
    enlarged = net.binary("div", net.conv(signed, filters), net.conv(inside, filters))
    return net.add("PixelShuffle", [net.add("Clip", [enlarged], {0: -1.0, 1: 1.0})], {0: SCALE})


def add_branch(net: NcnnNetwork, restorer: Restorer, pixels: str, branch: Branch, ramp: str) -> str:
    """(3, H, W) in [-1, 1] => the same, not clamped. Sides are multiples of 4, so that 4 pixels more are enough."""
    half = PATCH // 2
    padded = net.add("Padding", [pixels], {1: half, 3: half, 4: REFLECT})
    top, left = branch.offset or (0, 0)
    if branch.offset is not None:
        whole = f"*(//(0h,{PATCH}),{PATCH}),*(//(0w,{PATCH}),{PATCH})"
        padded = net.crop(padded, "0,0", whole, "1,2")
        padded = net.add("Padding", [padded], {0: top, 1: PATCH - top, 2: left, 3: PATCH - left, 4: REFLECT})
    given = net.add("Reorg", [padded], {0: PATCH})  # what does not fill a patch is left out
    added = add_unet(net, restorer.unet, given, branch.row, ramp)
    if restorer.pattern_tokens:
        added = net.binary("sub", added, add_pattern(net, added, restorer.pattern_tokens))
    shuffled = net.add("PixelShuffle", [net.binary("add", given, added)], {0: PATCH})
    return net.crop(shuffled, f"{top},{left}", f"+(1h,{top}),+(1w,{left})", "1,2", [pixels])


def add_unet(net: NcnnNetwork, unet: UNet, x: str, row: int, ramp: str) -> str:
    """One evaluation of the UNet on (C, H, W)."""
    x = net.conv(x, unet.conv_in)
    skips = [x]
    for level in unet.down:
        assert isinstance(level, Level)
        for number in range(len(level.resnets)):
            x = add_block(net, level, number, x, row, ramp)
            skips.append(x)
        if isinstance(level.resize, nn.Conv2d):
            x = net.conv(x, level.resize)
            skips.append(x)
    x = add_resnet(net, unet.middle_first, x)
    for transformer, resnet in zip(unet.middle_transformers, unet.middle.resnets, strict=True):
        assert isinstance(transformer, Transformer) and isinstance(resnet, Resnet)
        x = add_resnet(net, resnet, add_transformer(net, transformer, x, row, ramp))
    for level in unet.up:
        assert isinstance(level, Level)
        for number in range(len(level.resnets)):
            x = add_block(net, level, number, net.concat([x, skips.pop()]), row, ramp)
        if isinstance(level.resize, nn.Conv2d):
            x = net.conv(net.add("Interp", [x, skips[-1]], {0: 1, 5: 1}), level.resize)
    return net.conv(net.add("Swish", [net.group_norm(x, unet.norm_out)], {}), unet.conv_out)


def add_block(net: NcnnNetwork, level: Level, number: int, x: str, row: int, ramp: str) -> str:
    """A residual block and its transformer, if it has one."""
    resnet, transformer = level.resnets[number], level.transformers[number]
    assert isinstance(resnet, Resnet)
    x = add_resnet(net, resnet, x)
    return add_transformer(net, transformer, x, row, ramp) if isinstance(transformer, Transformer) else x


def add_resnet(net: NcnnNetwork, resnet: Resnet, x: str) -> str:
    """A residual block."""
    hidden = net.conv(net.add("Swish", [net.group_norm(x, resnet.norm1)], {}), resnet.conv1)
    hidden = net.conv(net.add("Swish", [net.group_norm(hidden, resnet.norm2)], {}), resnet.conv2)
    return net.binary("add", x if resnet.shortcut is None else net.conv(x, resnet.shortcut), hidden)


def add_transformer(net: NcnnNetwork, transformer: Transformer, x: str, row: int, ramp: str) -> str:
    """A spatial transformer on (C, H, W), whose linear layers are convolutions of 1 x 1."""
    hidden = net.linear(net.group_norm(x, transformer.norm), transformer.proj_in)
    for block in transformer.blocks:
        assert isinstance(block, TransformerBlock)
        normed = net.layer_norm(hidden, block.norm1)
        hidden = net.binary("add", hidden, add_attention(net, block.attention, normed, ramp))
        normed = net.layer_norm(hidden, block.norm2)
        hidden = net.binary("add", hidden, add_prompt_attention(net, block.crossed, normed, row))
        normed = net.layer_norm(hidden, block.norm3)
        gate = net.add("GELU", [net.linear(normed, block.gate)], {0: 0})
        gated = net.binary("mul", net.linear(normed, block.inner), gate)
        hidden = net.binary("add", hidden, net.linear(gated, block.outer))
    return net.binary("add", x, net.linear(hidden, transformer.proj_out))


def add_prompt_attention(net: NcnnNetwork, crossed: PromptAttention, x: str, row: int) -> str:
    """Cross-attention to constant prompts."""
    scores, mixed = crossed.scores[row], crossed.mixed[row]
    assert isinstance(scores, nn.Linear) and isinstance(mixed, nn.Linear)
    by_head = net.add("Reshape", [net.linear(x, scores)], {0: 0, 1: 0, 11: crossed.tokens, 2: crossed.heads})
    flat = net.add("Reshape", [net.softmax(by_head, 1)], {0: 0, 1: 0, 2: crossed.heads * crossed.tokens})
    return net.linear(flat, mixed)


def add_pattern(net: NcnnNetwork, added: str, tokens: int) -> str:
    """`gendrpix.engines.pattern.pattern_of`; a mean over a patch's pixels is a convolution of 1 x 1.

    In levels of 255, whose squares neither overflow nor vanish where a GPU holds numbers in 16 bits.
    """
    levels = net.binary("mul", added, LEVELS)
    detail = net.binary("sub", levels, _spread(net, _patch_mean(net, levels)))
    wide = _repeated(net, detail, WIDER * tokens)
    pattern = net.binary("add", wide, _repeated(net, net.binary("sub", detail, wide), tokens))
    return net.binary("mul", pattern, 1 / LEVELS)


def _repeated(net: NcnnNetwork, detail: str, tokens: int) -> str:
    mean = _mean_around(net, detail, tokens)
    energy = _patch_mean(net, net.binary("mul", mean, mean))
    squares = _mean_around(net, _patch_mean(net, net.binary("mul", detail, detail)), tokens)
    variance = net.binary("max", net.binary("sub", squares, energy), 0.0)
    inside = net.binary("add", net.binary("mul", energy, 0.0), 1.0)
    count = net.binary("mul", _mean_around(net, inside, tokens, whole=True), float(tokens**2))
    by_chance = net.binary("div", variance, count)
    share = net.binary("div", by_chance, net.binary("max", energy, LEAST_ENERGY))
    kept = net.binary("max", net.binary("add", net.binary("mul", share, -1.0), 1.0), 0.0)
    return net.binary("mul", mean, _spread(net, kept))


def _mean_around(net: NcnnNetwork, maps: str, tokens: int, *, whole: bool = False) -> str:
    """The mean over `tokens` x `tokens` positions around each; `whole`: those beyond the borders count, as zeros."""
    reach = tokens // 2
    shared: dict[int, Value] = {0: 1, 2: 1, 5: 1, 6: int(whole)}
    down = net.add("Pooling", [maps], {**shared, 1: 1, 11: tokens, 3: 0, 13: reach})
    return net.add("Pooling", [down], {**shared, 1: tokens, 11: 1, 3: reach, 13: 0})


def _patch_mean(net: NcnnNetwork, maps: str) -> str:
    """(192, H, W) => (3, H, W)."""
    conv = nn.Conv2d(3 * PATCH**2, 3, 1, bias=False)
    conv.weight.data = torch.block_diag(*[torch.full((1, PATCH**2), 1 / PATCH**2)] * 3)[..., None, None]
    return net.conv(maps, conv)


def _spread(net: NcnnNetwork, maps: str) -> str:
    """(3, H, W) => (192, H, W)."""
    conv = nn.Conv2d(3, 3 * PATCH**2, 1, bias=False)
    conv.weight.data = torch.block_diag(*[torch.ones(PATCH**2, 1)] * 3)[..., None, None]
    return net.conv(maps, conv)

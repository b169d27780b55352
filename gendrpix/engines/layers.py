"""A UNet's layers in the form in which they are exported: constants folded, no branch that depends on the sizes."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.engines.windows import WindowedAttention


class Resnet(nn.Module):
    """A residual block whose share of the time embedding is part of the first convolution's bias."""

    def __init__(self, block: ResnetBlock2D, emb: Tensor) -> None:
        super().__init__()
        if block.time_embedding_norm != "default" or block.upsample is not None or block.downsample is not None:
            raise ValueError(
                f"A residual block with the time embedding {block.time_embedding_norm!r} or a resizer of its own "
                "cannot be exported; expected the blocks of the families mini and sd21."
            )
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.conv1, self.conv2 = copied_conv(block.conv1), block.conv2
        self.shortcut = block.conv_shortcut
        added = block.time_emb_proj(F.silu(emb))[0]
        self.conv1.bias = nn.Parameter(block.conv1.bias + added)
        factor = float(block.output_scale_factor)
        if factor != 1.0:
            raise ValueError(f"A residual block with output_scale_factor {factor} cannot be exported; expected 1.")

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, h, w) => (1, C', h, w)."""
        hidden: Tensor = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        kept: Tensor = x if self.shortcut is None else self.shortcut(x)
        return kept + hidden


class PromptAttention(nn.Module):
    """Cross-attention to constant prompts, folded into two small products.

    The scores `(x Wq) (c Wk)^T` are one product of `x` with a constant, and so is the way from the weights through
    the values to the output: heads * tokens columns in place of the channels.
    """

    def __init__(self, attn: Any, prompts: Tensor) -> None:
        super().__init__()
        self.heads, self.tokens = int(attn.heads), prompts.shape[1]
        keys = attn.to_k(prompts).unflatten(-1, (self.heads, -1))  # (P, T, heads, d)
        values = attn.to_v(prompts).unflatten(-1, (self.heads, -1))
        query = attn.to_q.weight.unflatten(0, (self.heads, -1))  # (heads, d, C)
        out = attn.to_out[0].weight.unflatten(1, (self.heads, -1))  # (C, heads, d)
        scores = torch.einsum("hdc,pthd->pcht", query, keys).flatten(2) * float(attn.scale)
        mixed = torch.einsum("pthd,chd->phtc", values, out).flatten(1, 2)
        self.scores = nn.ModuleList(constant_linear(one.T) for one in scores)
        self.mixed = nn.ModuleList(constant_linear(one.T, attn.to_out[0].bias) for one in mixed)

    def forward(self, x: Tensor, row: int) -> Tensor:
        """(1, N, C) => (1, N, C), for one of the prompts."""
        weights = self.scores[row](x).unflatten(-1, (self.heads, self.tokens)).softmax(dim=-1)
        mixed: Tensor = self.mixed[row](weights.flatten(-2))
        return mixed


class TransformerBlock(nn.Module):
    """Self-attention in windows, cross-attention to constant prompts, a gated feed-forward layer."""

    def __init__(self, block: Any, attention: WindowedAttention, prompts: Tensor) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attention = attention
        self.crossed = PromptAttention(block.attn2, prompts)
        gate = block.ff.net[0].proj
        half = gate.out_features // 2
        self.inner = constant_linear(gate.weight[:half], gate.bias[:half])
        self.gate = constant_linear(gate.weight[half:], gate.bias[half:])
        self.outer = block.ff.net[2]

    def forward(self, x: Tensor, height: int, width: int, row: int) -> Tensor:
        """(1, N, C) => (1, N, C)."""
        x = x + self.attention(self.norm1(x), height, width)
        x = x + self.crossed(self.norm2(x), row)
        normed = self.norm3(x)
        fed: Tensor = self.outer(self.inner(normed) * F.gelu(self.gate(normed)))
        return x + fed


class Transformer(nn.Module):
    """A spatial transformer of a UNet."""

    def __init__(self, transformer: Transformer2DModel, blocks: list[TransformerBlock]) -> None:
        super().__init__()
        self.norm, self.blocks = transformer.norm, nn.ModuleList(blocks)
        self.proj_in, self.proj_out = as_linear(transformer.proj_in), as_linear(transformer.proj_out)

    def forward(self, x: Tensor, row: int) -> Tensor:
        """(1, C, h, w) => (1, C, h, w)."""
        height, width = x.shape[-2:]
        hidden = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.blocks:
            hidden = block(hidden, height, width, row)
        added: Tensor = self.proj_out(hidden)
        return x + added.transpose(1, 2).reshape(1, -1, height, width)


def as_linear(layer: nn.Module) -> nn.Linear:
    """A linear layer, or a convolution of 1 x 1 pixels as one."""
    if isinstance(layer, nn.Linear):
        return layer
    assert isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    return constant_linear(layer.weight.flatten(1), layer.bias)


def constant_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with this weight, (out, in), and this bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def copied_conv(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution as a plain one; a change of its bias stays its own."""
    shape: dict[str, Any] = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "groups")}
    copy = nn.Conv2d(conv.in_channels, conv.out_channels, **shape)
    copy.weight, copy.bias = conv.weight, conv.bias
    return copy

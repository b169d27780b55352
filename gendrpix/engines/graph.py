"""GenDR-Pix as one graph: a small picture in, the restored and enlarged one out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from gendrpix.engines.enlarge import SCALE, Enlarge, mirror
from gendrpix.engines.layers import Resnet, Transformer, TransformerBlock, copied_conv
from gendrpix.engines.pattern import pattern_of
from gendrpix.engines.windows import WindowedAttention
from gendrpix.models.attention import AutoProcessor
from gendrpix.models.networks import one_step_levels
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.specs import PATCH, Offset

LEVEL_KINDS = ("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn")


class Branch(NamedTuple):
    """One pass of the network: which prompt, at which offset (None for no padding), with what weight."""

    row: int
    offset: Offset | None
    weight: float


class Level(nn.Module):
    """The blocks of one resolution, and the layer that leads to the next."""

    resnets: nn.ModuleList
    resize: nn.Module | None

    def __init__(self, resnets: list[Resnet], transformers: list[Transformer | None], resize: nn.Module | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.transformers = nn.ModuleList(nn.Identity() if one is None else one for one in transformers)
        self.crossed = [one is not None for one in transformers]
        self.resize = resize

    def block(self, number: int, x: Tensor, row: int) -> Tensor:
        """One residual block and its transformer, if it has one."""
        hidden: Tensor = self.resnets[number](x)
        if self.crossed[number]:
            hidden = self.transformers[number](hidden, row)
        return hidden


class UNet(nn.Module):
    """A UNet of diffusers with its timestep and prompts folded in: (1, C, h, w) => (1, C', h, w)."""

    def __init__(self, unet: UNet2DConditionModel, prompts: Tensor, timestep: int) -> None:
        super().__init__()
        check_exportable(unet)
        emb = unet.time_embedding(unet.time_proj(torch.tensor([timestep])))
        self.conv_in, self.norm_out, self.conv_out = unet.conv_in, unet.conv_norm_out, unet.conv_out

        def level(block: Any) -> Level:
            resizers = getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None)
            found = getattr(block, "attentions", None) or []
            crossed = [fold_transformer(one, prompts) for one in found]
            padding = [None] * (len(block.resnets) - len(crossed))
            return Level([Resnet(one, emb) for one in block.resnets], [*crossed, *padding], copy_resizer(resizers))

        self.down = nn.ModuleList(level(block) for block in unet.down_blocks)
        self.up = nn.ModuleList(level(block) for block in unet.up_blocks)
        middle = unet.mid_block
        first, *others = (Resnet(one, emb) for one in middle.resnets)
        crossed = [fold_transformer(one, prompts) for one in middle.attentions]
        self.middle_first, self.middle = first, Level(others, [None] * len(others), None)
        self.middle_transformers = nn.ModuleList(crossed)

    def forward(self, x: Tensor, row: int) -> Tensor:
        """One evaluation with the prompt of that row."""
        x = self.conv_in(x)
        skips = [x]
        for level in cast("Iterable[Level]", self.down):
            for number in range(len(level.resnets)):
                x = level.block(number, x, row)
                skips.append(x)
            if level.resize is not None:
                x = level.resize(x)
                skips.append(x)
        x = self.middle_first(x)
        for transformer, resnet in zip(self.middle_transformers, self.middle.resnets, strict=True):
            x = resnet(transformer(x, row))
        for level in cast("Iterable[Level]", self.up):
            for number in range(len(level.resnets)):
                x = level.block(number, torch.cat((x, skips.pop()), dim=1), row)
            if level.resize is not None:
                x = level.resize(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class Restorer(nn.Module):
    """(1, 3, h, w) RGB in [0, 1] => (1, 3, 4 h, 4 w) in [0, 1], float32, any h and w.

    Equal to the pipeline's result at scale 4: enlarged, mirrored to multiples of 8, restored, cropped, clamped.
    guidance: PadCFG's omega with the two offsets; None for one unpadded pass. The pipeline's UNet is in float32, and
    stays as it is: most weights are shared with it.
    """

    @torch.no_grad()
    def __init__(self, pipeline: RestorerPipeline, *, guidance: float | None, pos_pad: Offset, neg_pad: Offset) -> None:
        super().__init__()
        config = pipeline.config
        if pipeline.restorer.name != "gendr-pix":
            raise ValueError(f"{pipeline.restorer.label} has an autoencoder and cannot be exported; choose gendr-pix.")
        self.branches = plan_branches(guidance, pos_pad, neg_pad)
        prompts = pipeline.prompts.float()
        self.enlarge = Enlarge()
        self.unet = UNet(pipeline.unet, prompts if guidance is not None else prompts[:1], config.timestep)
        self.eval()
        self.form, self.pattern_tokens = config.form, int(config.pattern_tokens)
        self.levels = one_step_levels(int(config.timestep), pipeline.alpha_bar)

    def forward(self, picture: Tensor) -> Tensor:
        """One picture, restored."""
        height, width = (side * SCALE for side in picture.shape[-2:])
        pixels = self.enlarge(picture)
        pixels = mirror(mirror(pixels, 2, 0, -height % PATCH), 3, 0, -width % PATCH)
        mixed: Tensor | None = None
        for branch in self.branches:
            restored = self._predict(pixels, branch)[..., :height, :width]
            restored = restored if branch.weight == 1 else restored * branch.weight
            mixed = restored if mixed is None else mixed + restored
        assert mixed is not None
        return (mixed.clamp(-1, 1) + 1) / 2

    def _predict(self, pixels: Tensor, branch: Branch) -> Tensor:
        """(1, 3, H, W) in [-1, 1], sides multiples of 8 => the same, not clamped."""
        top, left = branch.offset or (0, 0)
        if branch.offset is not None:
            pixels = mirror(mirror(pixels, 2, top, PATCH - top), 3, left, PATCH - left)
        given = F.pixel_unshuffle(pixels, PATCH)
        added = self._added(given, self.unet(given, branch.row))
        if self.pattern_tokens:
            added = added - pattern_of(added, self.pattern_tokens)
        return F.pixel_shuffle(given + added, PATCH)[..., top:, left:]

    def _added(self, given: Tensor, output: Tensor) -> Tensor:
        """What the prediction differs by from the picture given (`gendrpix.models.networks.predict`)."""
        if self.form == "residual":
            return output
        if self.form == "direct":
            return output - given
        alpha, sigma = self.levels
        if self.form == "v":
            return (alpha - 1) * given - sigma * output
        return (given - sigma * output) / alpha - given


def plan_branches(guidance: float | None, pos_pad: Offset, neg_pad: Offset) -> tuple[Branch, ...]:
    """The passes that a guidance asks for: one, or PadCFG's two."""
    if guidance is None:
        return (Branch(0, None, 1.0),)
    return (Branch(0, pos_pad, guidance), Branch(1, neg_pad, 1.0 - guidance))


def fold_transformer(transformer: Any, prompts: Tensor) -> Transformer:
    """A spatial transformer for export, its self-attention as `RestorerPipeline.set_attention` has chosen it."""
    blocks = []
    for block in transformer.transformer_blocks:
        kind = block.attn1.processor
        auto = isinstance(kind, AutoProcessor)
        attention = WindowedAttention(
            block.attn1,
            kind.window if auto else None,
            shifted=auto and kind.shifted,
            sample=kind.sample if auto else None,
        )
        blocks.append(TransformerBlock(block, attention, prompts))
    return Transformer(transformer, blocks)


def copy_resizer(resizers: Any) -> nn.Module | None:
    """The convolution that a level ends with, if it does."""
    if not resizers:
        return None
    return copied_conv(resizers[0].conv)


def check_exportable(unet: UNet2DConditionModel) -> None:
    """Raise ValueError for a UNet that is built otherwise than those of the families mini and sd21."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    strange = [type(block).__name__ for block in blocks if type(block).__name__ not in LEVEL_KINDS]
    if strange or unet.config.act_fn != "silu" or unet.config.center_input_sample:
        raise ValueError(
            f"This UNet cannot be exported: it has {', '.join(strange) or 'another activation or input'}; expected "
            f"blocks of the kinds {', '.join(LEVEL_KINDS)} with the activation silu."
        )

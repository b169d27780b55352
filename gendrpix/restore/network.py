"""The networks of a restorer as one step: pixels at the output size in, restored pixels out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gendrpix.image.resize import pad_to_multiple
from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import Codec, LatentCodec
from gendrpix.models.networks import predict
from gendrpix.models.pattern import without_pattern
from gendrpix.restore import guidance as padcfg
from gendrpix.restore.guidance import Branches
from gendrpix.specs import MODEL_SPECS, NEG_PAD, PATCH, POS_PAD, Offset, RestorerSpec


class OneStepNetwork:
    """One evaluation of a UNet between two codecs; `gendrpix.restore.pipelines` names which.

    It has no constructor of its own: whoever inherits sets the attributes below.
    """

    restorer: ClassVar[RestorerSpec]
    unet: UNet2DConditionModel
    vae: Any
    """The autoencoder, or None for a restorer of pixels alone."""
    prompts: Tensor
    """(2, L, D), the positive and the negative embedding."""
    config: Any
    """form, timestep, pattern_tokens and model, as `RestorerPipeline` takes them."""
    device: torch.device
    _attention: str | None
    _reader: Codec
    _writer: Codec

    # Options -------------------------------------------------------------------------------------------------------

    @property
    def alpha_bar(self) -> float | None:
        """Squared signal level of the one step; None for that of the timestep."""
        level: float | None = self.config.get("alpha_bar")
        return level

    @property
    def one_step(self) -> dict[str, Any]:
        """How its UNet is asked and read, as `gendrpix.models.networks.predict` takes it."""
        return {"timestep": self.config.timestep, "form": self.config.form, "alpha_bar": self.alpha_bar}

    @property
    def pos_pad(self) -> Offset:
        """The positive branch's offset where a user names none: the weights' own, or else the paper's."""
        rows, columns = self.config.get("pos_pad") or POS_PAD
        return rows, columns

    @property
    def neg_pad(self) -> Offset:
        """The same for the negative branch."""
        rows, columns = self.config.get("neg_pad") or NEG_PAD
        return rows, columns

    @property
    def window_tokens(self) -> tuple[int, ...] | None:
        """Side of the self-attention field seen in training, one a level; None for a family that is not registered."""
        spec = MODEL_SPECS.get(self.config.model)
        return spec.window_tokens if spec else None

    @property
    def attention(self) -> str | None:
        """The kind that `set_attention` has chosen; None where it was never called."""
        return self._attention

    def set_attention(self, kind: str) -> None:
        """Choose the UNet's self-attention: "full", "window", "pooled" or "auto" (`gendrpix.models.attention`)."""
        if self.window_tokens is None:
            raise ValueError(
                f"The trained window sizes of {self.config.model!r} are not known; expected one of "
                f"{', '.join(MODEL_SPECS)}. Call gendrpix.models.attention.set_attention with the sides."
            )
        attend_as(MODEL_SPECS[self.config.model], self.unet, kind)
        self._attention = kind

    @contextlib.contextmanager
    def vae_tiles(self, tile_px: int | None) -> Iterator[None]:
        """Within, the autoencoder works in blended tiles of that side in pixels; None for the whole at once."""
        codecs = [codec for codec in (self._reader, self._writer) if isinstance(codec, LatentCodec)]
        before = [codec.tile_px for codec in codecs]
        for codec in codecs:
            codec.tile_px = tile_px
        try:
            yield
        finally:
            for codec, tile in zip(codecs, before, strict=True):
                codec.tile_px = tile

    # One step ------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def restore(self, pixels: Tensor) -> Tensor:
        """One unpadded pass with the positive embedding: (B, 3, H, W) in [-1, 1] => the same, clamped."""
        height, width = pixels.shape[-2:]
        restored = self._predict(pad_to_multiple(pixels, PATCH), self.prompts[:1])
        return restored[..., :height, :width].clamp(-1, 1)

    def restore_guided(self, pixels: Tensor, guidance: float | None, **how: Any) -> tuple[Tensor, Branches | None]:
        """`restore` without guidance; else the clamped mix of `restore_branches(pixels, **how)`, and the branches."""
        if guidance is None:
            return self.restore(pixels), None
        branches = self.restore_branches(pixels, **how)
        return padcfg.mix(branches, guidance).clamp(-1, 1), branches

    @torch.inference_mode()
    def restore_branches(
        self,
        pixels: Tensor,
        *,
        pos_pad: Offset | None = None,
        neg_pad: Offset | None = None,
        plain_cfg: bool = False,
        batched: bool = True,
    ) -> Branches:
        """PadCFG's two branches, (B, 3, H, W) each, not clamped; `guidance.mix` makes the result of them.

        Offsets of None are the weights' own.
        """
        if not self.restorer.guided:
            raise ValueError(
                f"Guidance is defined for GenDR-Pix only, not for {self.restorer.label}; pass guidance=None."
            )
        height, width = pixels.shape[-2:]
        whole = pad_to_multiple(pixels, PATCH)
        if plain_cfg:
            branches = padcfg.predict_plain_branches(self._predict, whole, self.prompts, batched=batched)
        else:
            branches = padcfg.predict_branches(
                self._predict,
                whole,
                self.prompts,
                pos_pad=pos_pad or self.pos_pad,
                neg_pad=neg_pad or self.neg_pad,
                batched=batched,
            )
        return Branches(*(branch[..., :height, :width] for branch in branches))

    @torch.inference_mode()
    def restore_branch(self, pixels: Tensor, offsets: Sequence[Offset | None], *, positive: bool) -> Tensor:
        """One of PadCFG's branches at several offsets: (1, 3, H, W) => (len(offsets), 3, H, W), not clamped.

        An offset of None is the unpadded pass. All are one batch, so None cannot stand beside others.
        """
        height, width = pixels.shape[-2:]
        whole = pad_to_multiple(pixels, PATCH)
        row = 0 if positive else 1
        padded = torch.cat([whole if offset is None else padcfg.pad(whole, offset) for offset in offsets])
        predicted = self._predict(padded, self.prompts[row : row + 1].expand(len(offsets), -1, -1))
        pairs = zip(predicted, offsets, strict=True)
        cropped = [padcfg.crop(one, offset or (0, 0), height, width) for one, offset in pairs]
        return torch.stack(cropped)

    def _predict(self, pixels: Tensor, prompts: Tensor) -> Tensor:
        """Pixels with sides that are multiples of 8 => pixels, not clamped."""
        prompts = prompts.to(pixels.device, pixels.dtype)
        given = self._reader.encode(pixels)
        restored = self._writer.decode(predict(self.unet, given, prompts, **self.one_step))
        return without_pattern(restored, pixels, self.config.pattern_tokens)

"""The terms of the stage `pix` that look at pictures as a viewer does: the perceptual and the adversarial one.

Both see them behind RandPad, real and student's at offsets of their own, so that neither can be pleased by place in
the grid of 8 pixels (arXiv 2602.10630).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendrpix.specs import Offset
from training.config import PixConfig
from training.discriminator import DiscriminatorHeads
from training.losses import discriminator_loss, draw_offsets, draw_zoom, generator_loss, randpad, zoomed
from training.perceptual import PerceptualLoss
from training.run import Run, keep_trainable

Maps = Callable[[Tensor], list[Tensor]]
"""Pictures, (B, 3, H, W) in [-1, 1], sides multiples of 8 => feature maps of several depths."""


class Shown(NamedTuple):
    """How a batch is shown to the terms."""

    step: int
    indices: Sequence[int]
    """Of the samples; they and the run's seed give RandPad's offsets."""
    felt: Tensor
    """(B,) bool: the samples that the perceptual term compares."""
    weights: Tensor
    """(B,) with which the discriminator sees them."""


class PictureTerms:
    """L_P and `softplus(-Disc(y))`, with the discriminator's heads and their optimiser.

    maps: the frozen features that the heads judge by, and `channels` their widths; None for no discriminator.
    """

    def __init__(
        self,
        config: PixConfig,
        run: Run,
        perceptual_loss: PerceptualLoss | None,
        maps: Maps | None,
        channels: Sequence[int],
    ) -> None:
        self.config, self.run = config, run
        self.perceptual_loss = perceptual_loss if config.perceptual_weight else None
        self.maps = maps if config.adversarial_weight > 0 else None
        self._fake_maps: list[Tensor] = []
        self.states: list[Any] = []
        """What a checkpoint must hold: the heads and their optimiser, where there is a discriminator."""
        if self.maps is None:
            return
        self.heads = DiscriminatorHeads(list(channels), config.head_channels).to(run.accelerator.device)
        self.optimizer = torch.optim.AdamW(
            self.heads.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )
        self.states = [self.heads, self.optimizer]

    def generator(self, y: Tensor, reference: Tensor, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum for the student's pictures `y`, and each term."""
        config, seed = self.config, self.run.config.loop.seed
        loss, terms = y.new_zeros(()), {}
        if self.perceptual_loss is not None:
            zoom, offsets = draw_zoom(shown.step, seed, config.perceptual_zoom), self._offsets(shown, 1)
            compared = (torch.where(shown.felt[:, None, None, None], y, reference), reference)
            perceptual = self.perceptual_loss(*(zoomed(randpad(each, offsets), zoom) for each in compared))
            loss = loss + config.perceptual_weight * perceptual
            terms["perceptual"] = perceptual.detach()
        if self._judges(shown.step):
            keep_trainable(self.heads, trainable=False)
            maps = self._shifted_maps(y, shown, 1)
            fooled = generator_loss(self.heads(maps), shown.weights)
            self._fake_maps = [one.detach() for one in maps]
            loss = loss + config.adversarial_weight * fooled
            terms["generator"] = fooled.detach()
        return loss, terms

    def discriminator(self, real: Tensor, shown: Shown) -> dict[str, Tensor]:
        """One step of the heads on `real` pictures and on the student's that `generator` has seen; its term."""
        if not self._judges(shown.step):
            return {}
        keep_trainable(self.heads, trainable=True)
        with torch.no_grad():
            real_maps = self._shifted_maps(real, shown, 2)
        judgement = discriminator_loss(self.heads(real_maps), self.heads(self._fake_maps), shown.weights)
        rate = self.config.discriminator_learning_rate
        self.run.update_replica(judgement, self.optimizer, self.heads.parameters(), rate, shown.step)
        return {"discriminator": judgement.detach()}

    def _judges(self, step: int) -> bool:
        return self.maps is not None and step >= self.config.adversarial_start

    def _shifted_maps(self, y: Tensor, shown: Shown, stream: int) -> list[Tensor]:
        assert self.maps is not None
        return self.maps(randpad(y, self._offsets(shown, stream)))

    def _offsets(self, shown: Shown, stream: int) -> list[Offset]:
        """RandPad's, of stream 1 for the student's pictures and 2 for the real ones."""
        if not self.config.randpad:
            return [(0, 0)] * len(shown.indices)
        return draw_offsets(shown.indices, self.run.config.loop.seed, stream)

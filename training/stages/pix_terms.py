"""The terms of the stage `pix` beside the distances: against a pattern, the perceptual and the adversarial one.

The last two see pictures behind RandPad, real and student's at offsets of their own, so that neither can be pleased by
place in the grid of 8 pixels (arXiv 2602.10630).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendrpix.specs import Offset
from training.config import PixConfig
from training.loop.discriminator import Discriminator
from training.loop.run import Run
from training.losses.perceptual import PerceptualLoss
from training.losses.pixel import harmonics_loss, mfs_loss, shift_loss
from training.losses.randpad import draw_offsets, draw_zoom, randpad, zoomed

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


def pattern_terms(config: PixConfig, y: Tensor, reference: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L_F and the squared error in its bins: the weighted sum for the student's pictures `y`, and each term."""
    mfs = mfs_loss(y, reference, config.mfs_radius, config.mfs_sided)
    loss, terms = config.mfs_weight * mfs, {"mfs": mfs.detach()}
    if config.harmonics_weight:
        harmonics = harmonics_loss(y, reference, config.mfs_radius)
        loss, terms["harmonics"] = loss + config.harmonics_weight * harmonics, harmonics.detach()
    return loss, terms


def shift_term(
    config: PixConfig, student: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, indices: Sequence[int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted `shift_loss` of the student's pictures `y` of `x`, and the term; nothing where it has no weight."""
    if not config.shift_weight:
        return y.new_zeros(()), {}
    shift = shift_loss(student, x, y, indices, config.loop.seed)
    return config.shift_weight * shift, {"shift": shift.detach()}


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
        self.judge = Discriminator(config, run, channels)
        self.states = self.judge.states

    def whiten(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Whiten the discriminator's features by samples' true pictures, seen as real ones are."""
        if self.maps is not None:
            self.judge.whiten(self._shifted_maps(b["hq"], b["index"].tolist(), 2) for b in batches)

    def generator(self, y: Tensor, reference: Tensor, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum for the student's pictures `y`, and each term."""
        config, seed = self.config, self.run.config.loop.seed
        loss, terms = y.new_zeros(()), {}
        if self.perceptual_loss is not None:
            zoom, offsets = draw_zoom(shown.step, seed, config.perceptual_zoom), self._offsets(shown.indices, 1)
            compared = (torch.where(shown.felt[:, None, None, None], y, reference), reference)
            perceptual = self.perceptual_loss(*(zoomed(randpad(each, offsets), zoom) for each in compared))
            loss = loss + config.perceptual_weight * perceptual
            terms["perceptual"] = perceptual.detach()
        if self._judges(shown.step):
            maps = self._shifted_maps(y, shown.indices, 1)
            fooled = self.judge.fooled(maps, shown.weights)
            self._fake_maps = [one.detach() for one in maps]
            loss = loss + config.adversarial_weight * fooled
            terms["generator"] = fooled.detach()
        return loss, terms

    def discriminator(self, real: Tensor, shown: Shown) -> dict[str, Tensor]:
        """One step of the heads on `real` pictures and on the student's that `generator` has seen; its terms."""
        if not self._judges(shown.step):
            return {}
        with torch.no_grad():
            real_maps = self._shifted_maps(real, shown.indices, 2)
        return self.judge.learn(real_maps, self._fake_maps, shown.weights, shown.step)

    def _judges(self, step: int) -> bool:
        return self.maps is not None and step >= self.config.adversarial_start

    def _shifted_maps(self, y: Tensor, indices: Sequence[int], stream: int) -> list[Tensor]:
        assert self.maps is not None
        return self.maps(randpad(y, self._offsets(indices, stream)))

    def _offsets(self, indices: Sequence[int], stream: int) -> list[Offset]:
        """RandPad's, of stream 1 for the student's pictures and 2 for the real ones."""
        if not self.config.randpad:
            return [(0, 0)] * len(indices)
        return draw_offsets(indices, self.run.config.loop.seed, stream)

"""The discriminator in a stage's loop: its heads, their optimiser and both phases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.config import DiscriminatorConfig
from training.loop.run import Run
from training.losses.adversarial import DiscriminatorHeads, discriminator_loss, generator_loss, report_heads
from training.trainable import keep_trainable


class Discriminator:
    """The heads with their optimiser and their two phases: what a stage's loop needs of a discriminator."""

    def __init__(self, config: DiscriminatorConfig, run: Run, channels: Sequence[int]) -> None:
        self.config, self.run = config, run
        self.heads = DiscriminatorHeads(channels, config.head_channels).to(run.accelerator.device)
        self.optimizer = torch.optim.AdamW(
            self.heads.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )
        self.states: list[Any] = [self.heads, self.optimizer]
        """What a checkpoint must hold."""

    def whiten(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Set the whitening from real maps, where the run begins; a checkpoint brings it along."""
        if self.run.fresh:
            self.heads.whiten(batches)

    def fooled(self, maps: Sequence[Tensor], weights: Tensor) -> Tensor:
        """The generator's loss on its own maps; the heads are frozen."""
        keep_trainable(self.heads, trainable=False)
        return generator_loss(self.heads(maps), weights)

    def learn(self, real: Sequence[Tensor], fake: Sequence[Tensor], weights: Tensor, step: int) -> dict[str, Tensor]:
        """One step of the heads on maps without gradients; the terms to report."""
        keep_trainable(self.heads, trainable=True)
        judged_real, judged_fake = self.heads(real), self.heads(fake)
        loss = discriminator_loss(judged_real, judged_fake, weights)
        rate = self.config.discriminator_learning_rate
        self.run.update_replica(loss, self.optimizer, self.heads.parameters(), rate, step)
        return {"discriminator": loss.detach(), **report_heads(judged_real, judged_fake, weights)}

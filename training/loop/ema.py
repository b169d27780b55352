"""The moving average of a model's weights: what is validated and exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class Ema(EMAModel):
    """Exponential moving average with a warmed-up decay, in the weights' first precision.

    A decay of 0 keeps no average and takes no memory: then the weights themselves are validated and exported.
    """

    shadow_params: list[Tensor]
    """The averages, in the order of the model's parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model.parameters() if decay else [], decay=decay, use_ema_warmup=True, power=0.75)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved average, on the device and in the dtype that this one has.

        Raises ValueError where it is of other weights.
        """
        own = self.shadow_params
        if [p.shape for p in state_dict["shadow_params"]] != [p.shape for p in own]:
            raise ValueError(
                f"The checkpoint averages {len(state_dict['shadow_params'])} tensors that do not match this model's "
                f"{len(own)}. Resume with the settings of the run, or give another run folder."
            )
        super().load_state_dict(state_dict)
        self.shadow_params = [new.to(old) for new, old in zip(self.shadow_params, own, strict=True)]


@contextmanager
def averaged(ema: Ema, model: nn.Module) -> Iterator[None]:
    """Inside, `model` has the averaged weights and no gradients; afterwards its own again."""
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        ema.restore(model.parameters())
        model.train(was_training)

"""The moving average of a model's weights: what is validated and exported.

Under FSDP each process averages its own part of every weight, and the parts are gathered where the average leaves the
training: in checkpoints and in what is exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


class Ema(EMAModel):
    """Exponential moving average with a warmed-up decay, in the weights' first precision.

    A decay of 0 keeps no average and takes no memory: then the weights themselves are validated and exported. Build it
    after `accelerator.prepare`, which may replace the weights by parts of them.
    """

    shadow_params: list[Tensor]
    """The averages, in the order of the model's parameters; under FSDP of the parts that this process holds."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        weights = list(model.parameters()) if decay else []
        self._weights = weights  # under FSDP they tell how the parts lie
        super().__init__(map(_part, weights), decay=decay, use_ema_warmup=True, power=0.75)

    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take a step's weights in."""
        super().step(map(_part, parameters))

    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Overwrite weights with the averages."""
        super().copy_to(map(_part, parameters))

    def store(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep weights for `restore`."""
        super().store(map(_part, parameters))

    def restore(self, parameters: Iterable[nn.Parameter]) -> None:
        """Overwrite weights with those kept."""
        super().restore(map(_part, parameters))

    def whole_averages(self) -> list[Tensor]:
        """The averages of whole weights. Every process must call it: parts are gathered."""
        return [_whole_like(part, weight) for part, weight in zip(self.shadow_params, self._weights, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """The whole averages and their settings. Every process must call it."""
        return {**super().state_dict(), "shadow_params": self.whole_averages()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved average, on the device, in the dtype and in the parts that this one has.

        Raises ValueError where it is of other weights.
        """
        own = self._weights
        if [p.shape for p in state_dict["shadow_params"]] != [p.shape for p in own]:
            raise ValueError(
                f"The checkpoint averages {len(state_dict['shadow_params'])} tensors that do not match this model's "
                f"{len(own)}. Resume with the settings of the run, or give another run folder."
            )
        parts = self.shadow_params
        super().load_state_dict(state_dict)
        saved = zip(self.shadow_params, parts, own, strict=True)
        self.shadow_params = [_divided(new.to(part), weight) for new, part, weight in saved]


@contextmanager
def averaged(ema: Ema, model: nn.Module) -> Iterator[None]:
    """Inside, `model` has the averaged weights and no gradients; afterwards its own again."""
    _drop_gathered(model)
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():  # FSDP's buffers are used again in training, where tensors of inference mode may not be
            yield
    finally:
        _drop_gathered(model)
        ema.restore(model.parameters())
        model.train(was_training)


def whole(weight: Tensor) -> Tensor:
    """A weight of which each process may hold a part, as an ordinary tensor. Every process must call it."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def _part(weight: nn.Parameter) -> nn.Parameter:
    """The part of a weight that this process holds, in the same memory: plain tensors are computed with faster."""
    if not isinstance(weight, DTensor):
        return weight
    held: Any = weight.detach()
    return nn.Parameter(held.to_local(), requires_grad=weight.requires_grad)


def _whole_like(part: Tensor, weight: Tensor) -> Tensor:
    """A tensor of which `part` is what this process holds, divided as `weight` is."""
    if not isinstance(weight, DTensor):
        return part
    layout: Any = {"shape": weight.shape, "stride": weight.stride()}
    return whole(DTensor.from_local(part, weight.device_mesh, weight.placements, **layout))


def _divided(tensor: Tensor, weight: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds, where `weight` is divided."""
    if not isinstance(weight, DTensor):
        return tensor
    return distribute_tensor(tensor, weight.device_mesh, weight.placements).to_local()


def _drop_gathered(model: nn.Module) -> None:
    """Let go of the weights that FSDP has gathered for a pass: the parts alone can be changed."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()

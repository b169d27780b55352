"""Freezing of networks."""

from __future__ import annotations

from torch import nn


def keep_trainable(module: nn.Module, *, trainable: bool) -> nn.Module:
    """Set `requires_grad` of all parameters; a frozen module is also put in evaluation mode."""
    module.requires_grad_(trainable)
    return module.train(trainable)

"""Published one-step systems: low-rank adapters merged into the weights of a Stable Diffusion 2.1.

An adapter of rank r adds `alpha / r * B A` to a layer's weight (LoRA, arXiv 2106.09685). Files hold A, B and r; alpha
stands in the published code alone and is written down in each system's module here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendrpix.specs import Form

State = dict[str, Tensor]
PEFT_ALPHA = 8
"""What peft's LoraConfig takes where no alpha is named."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A published system that restores in one step of Stable Diffusion 2.1."""

    name: str
    label: str
    licence: str
    """Of the published weights."""
    source: str
    """Where they are published."""
    timestep: int
    form: Form
    """How its UNet's output is read (`gendrpix.models.networks.predict`)."""
    commercial: bool = True
    """Whether the licence allows commercial use."""
    merge: Callable[[State, State, Mapping[str, Any]], None]
    """(UNet's weights, autoencoder's weights, published file): merges the file into both, in place.

    Raises ValueError where the file is not this system's.
    """


def check_layout(published: Mapping[str, Any], kinds: Mapping[str, type], system: str) -> None:
    """Raise ValueError unless a published file has exactly these entries of these types."""
    for name in kinds.keys() | published.keys():
        if name not in kinds or not isinstance(published.get(name), kinds[name]):
            raise ValueError(
                f"The file has no proper {str(name)[:60]!r}; expected {system}'s weights with {', '.join(kinds)}."
            )


def merge_adapters(state: State, published: Mapping[str, Any], *, alpha: float, rank: int) -> None:
    """Merge every adapter of `published` into `state`, in place and in float32; whole weights are taken over first.

    published: peft's names, MODULE.lora_A.ADAPTER.weight and lora_B; MODULE.base_layer.weight or .bias, and names as in
    `state`, are whole weights. rank: of all adapters. Raises ValueError for a name or shape that does not fit, and
    where a half is missing.
    """
    pairs: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, value in published.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"The file has {str(name)[:60]!r}, which is no weight; expected a table of weights.")
        if found := re.fullmatch(r"(.+)\.lora_([AB])\.(\w+)\.weight", name):
            pairs.setdefault((found[1], found[3]), {})[found[2]] = value.float()
            continue
        place = name.replace(".base_layer.", ".")
        if place not in state or state[place].shape != value.shape:
            raise ValueError(f"The file has {name[:100]!r} of shape {tuple(value.shape)}, which the base has not.")
        state[place] = value.float().clone()
    if not pairs:
        raise ValueError("The file has no adapters; expected names with lora_A and lora_B.")
    for (module, adapter), halves in pairs.items():
        weight = state.get(f"{module}.weight")
        if weight is None or halves.keys() != {"A", "B"}:
            raise ValueError(f"The adapter {adapter!r} of {module[:100]!r} is not whole or has no layer in the base.")
        change = product(halves["A"], halves["B"], rank)
        if change.shape != weight.shape:
            raise ValueError(
                f"The adapter {adapter!r} of {module[:100]!r} has the shape {tuple(change.shape)}, the base's layer "
                f"{tuple(weight.shape)}; pass the base that the weights were trained on."
            )
        state[f"{module}.weight"] = weight.float() + alpha / rank * change


def product(a: Tensor, b: Tensor, rank: int) -> Tensor:
    """B A of a linear layer, (r, i) and (o, r) => (o, i), or of a convolution, (r, i, k, k) and (o, r, 1, 1).

    Raises ValueError for another rank or other shapes.
    """
    if a.ndim not in (2, 4) or a.ndim != b.ndim or a.shape[0] != rank or b.shape[1] != rank or b.shape[2:].numel() != 1:
        raise ValueError(f"An adapter has the shapes {tuple(a.shape)} and {tuple(b.shape)}; expected rank {rank}.")
    return torch.einsum("or,r...->o...", b.flatten(1), a)

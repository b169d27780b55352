"""HYPIR (arXiv 2507.20590): adapters of rank 256 on the UNet, one step from t = 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gendrpix.baselines.adapters import State, System, merge_adapters


def merge(unet: State, vae: State, published: Mapping[str, Any]) -> None:
    """See `System.merge`. The file is a table of adapters alone; the code sets alpha to the rank."""
    ranks = {len(value) for name, value in published.items() if ".lora_A." in str(name)}
    if len(ranks) != 1:
        raise ValueError(f"The file has adapters of {len(ranks)} different ranks; expected HYPIR's, all of one rank.")
    rank = ranks.pop()
    merge_adapters(unet, published, alpha=rank, rank=rank)


SYSTEM = System(
    name="hypir",
    label="HYPIR",
    licence="HYPIR Software License Agreement: no commercial use",
    commercial=False,
    source="https://github.com/XPixelGroup/HYPIR",
    timestep=200,
    form="epsilon",
    merge=merge,
)

"""PiSA-SR (arXiv 2412.03017): pixel and semantic adapters on the UNet, `z - UNet(z, t = 1)`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from gendrpix.baselines.adapters import PEFT_ALPHA, State, System, check_layout, merge_adapters

PLACES, PARTS = ("encoder", "decoder", "others"), ("pix", "sem")
KINDS = {
    **{f"unet_lora_{place}_modules_{part}": list for place, part in product(PLACES, PARTS)},
    **{f"lora_rank_unet_{part}": int for part in PARTS},
    "state_dict_unet": dict,
}
"""Entries of the published file (`PiSASR.save_model`)."""


def merge(unet: State, vae: State, published: Mapping[str, Any]) -> None:
    """See `System.merge`. Both parts count fully, as in the published default; its code names no alpha.

    The output layer's sign is turned, so that `z - UNet(z)` becomes the form "residual", `z + UNet(z)`.
    """
    check_layout(published, KINDS, "PiSA-SR")
    weights = published["state_dict_unet"]
    for part in PARTS:
        own = {name: value for name, value in weights.items() if str(name).endswith(f"_{part}.weight")}
        merge_adapters(unet, own, alpha=PEFT_ALPHA, rank=published[f"lora_rank_unet_{part}"])
        weights = {name: value for name, value in weights.items() if name not in own}
    if weights:
        raise ValueError(f"The file has {str(min(map(str, weights)))[:100]!r}, which PiSA-SR's weights have not.")
    for name in ("conv_out.weight", "conv_out.bias"):
        unet[name] = -unet[name]


SYSTEM = System(
    name="pisa-sr",
    label="PiSA-SR",
    licence="Apache-2.0",
    source="https://github.com/csslc/PiSA-SR",
    timestep=1,
    form="residual",
    merge=merge,
)

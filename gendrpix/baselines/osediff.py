"""OSEDiff (arXiv 2406.08177): adapters on the UNet and on the autoencoder's encoder, one step from t = 999."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gendrpix.baselines.adapters import PEFT_ALPHA, State, System, check_layout, merge_adapters

KINDS = {
    "vae_lora_encoder_modules": list,
    "unet_lora_encoder_modules": list,
    "unet_lora_decoder_modules": list,
    "unet_lora_others_modules": list,
    "rank_unet": int,
    "rank_vae": int,
    "state_dict_unet": dict,
    "state_dict_vae": dict,
}
"""Entries of the published file (`OSEDiff_gen.save_model`)."""


def merge(unet: State, vae: State, published: Mapping[str, Any]) -> None:
    """See `System.merge`. The file has the whole `conv_in` beside the adapters; its code names no alpha."""
    check_layout(published, KINDS, "OSEDiff")
    merge_adapters(unet, published["state_dict_unet"], alpha=PEFT_ALPHA, rank=published["rank_unet"])
    merge_adapters(vae, published["state_dict_vae"], alpha=PEFT_ALPHA, rank=published["rank_vae"])


SYSTEM = System(
    name="osediff",
    label="OSEDiff",
    licence="Apache-2.0",
    source="https://github.com/cswry/OSEDiff",
    timestep=999,
    form="epsilon",
    merge=merge,
)

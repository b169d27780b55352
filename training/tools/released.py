"""Which released weights of others had a part in a chain of runs: for the model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.tools.merge import CONFIG_FILE
from training.tools.provenance import NEW_WEIGHTS, TRUNKS, find_phases

ORDER = ("autoencoder", "base", "finest", "teacher", "adc", "pix")
"""Stages in the order in which one learns from the others."""
STAGE_OF = {"autoencoder": "autoencoder", "gendr": "teacher", "gendr-adc": "adc", "gendr-pix": "pix"}
KNOWN: Mapping[str, str] = {
    "realesr": "Real-ESRGAN (BSD-3-Clause)",
    "real-esrgan": "Real-ESRGAN (BSD-3-Clause)",
    "stable-diffusion-2": "Stable Diffusion 2.1 (CreativeML Open RAIL++-M)",
    "vae-kl-f8-d16": "ostris/vae-kl-f8-d16 (MIT)",
    "dinov2": "DINOv2 (Apache-2.0)",
}
"""Part of a place's name, in small letters => weights with their licence, as their authors state it."""
OPENRAIL = "openrail++"
PLACES = ("source", "autoencoder", "base", "start", "body", "teacher", "adc", "alignment_encoder")
"""Settings of a stage that may name weights."""
WHAT_FOR: Mapping[str, str] = {
    "source": "the base began as",
    "autoencoder": "the autoencoder is",
    "base": "the base model is",
    "start": "training began with",
    "body": "training began with",
    "teacher": "it learnt from the GenDR",
    "adc": "it learnt from the GenDR-Adc",
    "alignment_encoder": "its features were aligned with those of",
    "taught": "it learnt from the pictures of",
    "perceptual": "its perceptual loss compared features of",
}


def find_released(runs: Path, name: str) -> dict[str, str]:
    """Words for what it was used for, and the place => the setting, for all stages on which a restorer rests.

    runs: folder of the runs. Weights that a run beside them has trained are not released ones.
    """
    found: dict[str, str] = {}
    stages = ORDER[: ORDER.index(STAGE_OF[name]) + 1] if name != "autoencoder" else ("autoencoder",)
    for stage in stages:
        if (runs / stage / CONFIG_FILE).is_file():
            for settings in find_phases(runs / stage).values():
                found.update(_named_in(settings))
    return found


def _named_in(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key in PLACES:
        place = str(settings.get(key, ""))
        if place in NEW_WEIGHTS or (key == "alignment_encoder" and not settings.get("alignment_weight")):
            continue
        if not _is_a_runs(Path(place)):
            found[f"{WHAT_FOR[key]} {describe_place(place)}"] = key
    taught = (settings.get("taught") or {}).get("teacher", "")
    if taught and not _is_a_runs(Path(taught)):
        found[f"{WHAT_FOR['taught']} {describe_place(taught)}"] = "taught"
    trunk = str(settings.get("perceptual", "none"))
    if trunk.startswith("lpips") and settings.get("perceptual_weight"):
        found[f"{WHAT_FOR['perceptual']} {TRUNKS[trunk]} (LPIPS, BSD-2-Clause)"] = "perceptual"
    return found


def _is_a_runs(place: Path) -> bool:
    """Whether weights lie where a run exports them."""
    return (place.parent.parent / CONFIG_FILE).is_file() and place.parent.name == "weights"


def describe_place(place: str) -> str:
    """Weights by their name and, where they are known, their licence; never by where they lie on a machine."""
    for part, words in KNOWN.items():
        if part in Path(place).name.lower():
            return words
    return f"`{'/'.join(Path(place).parts[-2:])}`" if place else "an autoencoder that is not named"


def describe_released(used: Mapping[str, str]) -> str:
    """A sentence for a card."""
    if not used:
        return "No released weights were used."
    return f"Released weights of others were used: {'; '.join(used)}."


def choose_licence(used: Mapping[str, str] | Sequence[str]) -> str:
    """Stable Diffusion's licence for weights that began with it, else that of the bundled ones."""
    return OPENRAIL if any("Stable Diffusion" in words for words in used) else "cc-by-sa-4.0"

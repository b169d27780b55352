"""How a run's weights came about, phase by phase, read from the settings that every run keeps: for the model cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.tools.merge import CONFIG_FILE, RECORD, describe_record

NEW_WEIGHTS = ("", "principal", "random")
"""Values of a stage's `start` that name no earlier weights."""

TRUNKS: Mapping[str, str] = {
    "encoder": "the autoencoder's encoder",
    "lpips-squeeze": "LPIPS's SqueezeNet 1.1",
    "lpips-vgg": "LPIPS's VGG-16",
}
"""A perceptual loss, as a card names what computes its features."""


def read_settings(run: Path) -> dict[str, Any]:
    """The settings that a run folder keeps."""
    settings: dict[str, Any] = json.loads((run / CONFIG_FILE).read_text(encoding="utf-8"))
    return settings


def find_phases(run: Path) -> dict[str, dict[str, Any]]:
    """Run's name => its settings, earliest first, the run itself last: what it continued, and what it was mixed from.

    A mixture's sources are looked for beside it, what a run continued where its settings say. Weights whose run is not
    there are no phase; `describe_phase` names them.
    """
    settings = read_settings(run)
    found: dict[str, dict[str, Any]] = {}
    before = [run.parent / one["source"] for one in settings[RECORD]] if RECORD in settings else earlier_runs(settings)
    for earlier in before:
        if earlier.resolve() != run.resolve() and (earlier / CONFIG_FILE).is_file():
            found.update(find_phases(earlier))
    return {**found, run.resolve().name: settings}


def earlier_runs(settings: Mapping[str, Any]) -> list[Path]:
    """The runs that a phase continued, each named as RUN/weights/NAME."""
    named = [str(settings.get(key, "")) for key in ("start", "body")]
    return [Path(each).parent.parent for each in named if each not in NEW_WEIGHTS]


def describe_phase(name: str, settings: Mapping[str, Any]) -> str:
    """One line: steps, crops, degradation, loss terms, and which weights it began with. No path."""
    if RECORD in settings:
        return f"`{name}`: {describe_record(settings[RECORD])}"
    loop, data, start = settings["loop"], settings["data"], str(settings.get("start", ""))
    begun = "" if start in NEW_WEIGHTS else f", continuing `{_named(start)}`"
    if settings.get("body"):
        begun = f", begun with the UNet of `{_named(settings['body'])}`"
    crops = f"{loop['batch'] * loop['accumulate']} crops of {data['crop_px']} px"
    return (
        f"`{name}`: {loop['steps']:,} steps of {crops}, peak "
        f"learning rate {loop['learning_rate']:g}, degradation {describe_degradation(settings)}{begun}; "
        f"{describe_losses(settings)}."
    )


def describe_degradation(settings: Mapping[str, Any]) -> str:
    """The preset and the scale; of the autoencoder, which reconstructs, the share of the crops that are degraded."""
    data = settings["data"]
    if data["degradation"] == "none":
        return "none"
    share = f", of {data['negative_probability']:.0%} of the crops" if "l1_weight" in settings else ""
    return f"`{data['degradation']}`, x{data['scale']}{share}"


def _named(start: str) -> str:
    """RUN of RUN/weights/NAME, the last two parts of another place."""
    parts = Path(start).parts
    return parts[-3] if len(parts) > 2 and parts[-2] == "weights" else "/".join(parts[-2:])


def describe_losses(settings: Mapping[str, Any]) -> str:
    """The loss terms with their weights; those that the settings switch off are left out. `finest` has no weights."""
    weights = {
        key.removesuffix("_weight"): value for key, value in settings.items() if key.endswith("_weight") and value
    }
    if settings.get("perceptual") == "none":
        weights.pop("perceptual", None)
    elif "perceptual" in weights:
        weights[f"perceptual ({settings['perceptual']})"] = weights.pop("perceptual")
    if settings.get("mfs_sided") == "above" and "mfs" in weights:
        weights["mfs (above alone)"] = weights.pop("mfs")
    if settings.get("score", "none") == "none":
        weights.pop("score", None)
    else:
        weights[f"score distillation ({settings['score']})"] = weights.pop("score")
    if settings.get("backbone") == "none":
        weights.pop("adversarial", None)
    elif "adversarial" in weights:
        real = settings.get("real", "truth")  # the teacher's stage knows no other
        weights[f"adversarial (features of {settings['backbone']}, real: {real})"] = weights.pop("adversarial")
    return ", ".join(f"{key} {value:g}" for key, value in weights.items()) or "the truth alone"


def describe_trunks(phases: Mapping[str, Mapping[str, Any]]) -> str:
    """Which networks' features a perceptual loss compared in any of the phases."""
    used = [one["perceptual"] for one in phases.values() if one.get("perceptual_weight") and "perceptual" in one]
    named = [TRUNKS[each] for each in dict.fromkeys(used) if each != "none"]
    if not named:
        return "none"
    return f"{' and '.join(named)}: a metric with the same features proves less of these weights"

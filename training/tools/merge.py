"""`python -m training interpolate`: several trained restorers of one network => one, by averaging their weights.

    theta = sum_i share_i theta_i,   sum_i share_i = 1,   0 <= share_i <= 1

ESRGAN's network interpolation (arXiv 1809.00219, section 3.4), there between two networks, here between any number.
It works between networks that were trained on from one start; nothing tells beforehand that it works between others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendrpix.files import write_text
from gendrpix.restore.pipelines import PIPELINES, RestorerPipeline
from gendrpix.specs import RESTORER_SPECS
from gendrpix.weights.verify import digest_weights
from training.loop.export import replace_saved

CONFIG_FILE = "config.json"
RECORD = "interpolation"
"""Key of the mixed run's config: what was mixed, a list of {"source", "share", "sha256"}; `bundle` writes its card."""
DIGITS = 12
"""Of a source's SHA-256 that the record keeps."""


@dataclass(frozen=True, kw_only=True)
class InterpolateConfig:
    """Which restorers are mixed, and how much of each."""

    sources: tuple[Path, ...]
    """Two or more finished runs, or folders of a restorer's weights. At least one must be a run: the settings of the
    run with the largest share become those of the mixture."""
    shares: tuple[float, ...]
    """One for each source, 0 to 1, adding up to 1."""
    out: Path
    """Run folder to write: `weights/RESTORER` and the settings, as `bundle` reads them. An earlier mixture there is
    replaced, a trained run never."""

    def __post_init__(self) -> None:
        if len(self.sources) < 2 or len(self.shares) != len(self.sources):
            raise ValueError(
                f"There are {len(self.sources)} sources and {len(self.shares)} shares; expected at least two sources "
                "and one share for each."
            )
        if not all(0.0 <= share <= 1.0 for share in self.shares) or not math.isclose(sum(self.shares), 1.0):
            raise ValueError(
                f"The shares are {', '.join(f'{share:g}' for share in self.shares)}, which add up to "
                f"{sum(self.shares):g}; expected numbers from 0 to 1 that add up to 1."
            )


def interpolate(config: InterpolateConfig) -> Path:
    """Write the mixture as a run folder: weights first, then its record. Raises ValueError for other networks."""
    folders = [_weights_in(source) for source in config.sources]
    settings = _settings_of_largest(config)
    restorers = [PIPELINES[folder.name].from_pretrained(folder, dtype=torch.float32) for folder in folders]
    for source, restorer in zip(config.sources[1:], restorers[1:], strict=True):
        _check_same_network(restorers[0], restorer, config.sources[0], source)
    mixed = restorers[0]
    mixed.unet.load_state_dict(mix([restorer.unet.state_dict() for restorer in restorers], config.shares))
    mixed.prompts = mix([{"prompts": restorer.prompts} for restorer in restorers], config.shares)["prompts"]
    record = [
        {"source": source.name, "share": share, "sha256": digest_weights(folder)[:DIGITS]}
        for source, share, folder in zip(config.sources, config.shares, folders, strict=True)
    ]
    _refuse_trained_run(config.out)
    (config.out / CONFIG_FILE).unlink(missing_ok=True)  # it tells of weights that are about to go
    written = replace_saved(config.out / "weights" / mixed.restorer.name, mixed.to(dtype=torch.float16))
    write_text(config.out / CONFIG_FILE, json.dumps({**settings, RECORD: record}, indent=2) + "\n")
    return written


def mix(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The mean of state dicts with the same names and shapes, weighted by `shares`."""
    return {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))  # type: ignore[misc]
        for name in states[0]
    }


def describe_record(record: Sequence[Mapping[str, Any]]) -> str:
    """One sentence for a model card; a source with no share in it is told too."""
    parts = [f"{one['share']:g} of `{one['source']}` ({one['sha256']})" for one in record]
    return f"The weights are a mean of {len(parts)} trained networks (network interpolation): {', '.join(parts)}."


def _weights_in(source: Path) -> Path:
    """The one restorer's folder in a finished run, or the folder itself."""
    if (source / "model_index.json").is_file() and source.resolve().name in PIPELINES:
        return source
    found = [source / "weights" / name for name in PIPELINES if (source / "weights" / name).is_dir()]
    if len(found) != 1:
        raise ValueError(
            f"{source} is neither a finished run of a restorer nor a folder of one's weights, which is named "
            f"{', '.join(RESTORER_SPECS)}; pass other --sources."
        )
    return found[0]


def _settings_of_largest(config: InterpolateConfig) -> dict[str, Any]:
    """The settings of the run, among the sources, that has the largest share."""
    runs = [
        (share, source)
        for share, source in zip(config.shares, config.sources, strict=True)
        if (source / CONFIG_FILE).is_file()
    ]
    if not runs:
        raise ValueError(
            "None of the sources is a run's folder, whose settings the mixture would carry; pass at least one run "
            "(a folder with config.json and weights) with --sources."
        )
    _, largest = max(runs, key=lambda run: run[0])
    settings: dict[str, Any] = json.loads((largest / CONFIG_FILE).read_text(encoding="utf-8"))
    return settings


def _check_same_network(one: RestorerPipeline, other: RestorerPipeline, name: Path, other_name: Path) -> None:
    """Raises ValueError where two restorers differ in more than the UNet's weights and the prompts."""
    differences = [] if type(one) is type(other) else [f"{one.restorer.label} and {other.restorer.label}"]
    pairs = [(key, one.config[key], other.config[key]) for key in ("model", "form", "timestep")]
    pairs.append(("alpha_bar", one.alpha_bar, other.alpha_bar))
    differences += [f"{key} {mine} and {theirs}" for key, mine, theirs in pairs if mine != theirs]
    if not differences:
        shapes, other_shapes = (
            {key: value.shape for key, value in {**r.unet.state_dict(), "prompts": r.prompts}.items()}
            for r in (one, other)
        )
        differences += ["UNets of other shapes"] * (shapes != other_shapes)
        differences += ["different autoencoders"] * (not _same_autoencoder(one, other))
    if differences:
        raise ValueError(
            f"{name} and {other_name} cannot be mixed: {'; '.join(differences)}. Only weights of one network, on one "
            "autoencoder, can be."
        )


def _same_autoencoder(one: RestorerPipeline, other: RestorerPipeline) -> bool:
    """Whether both have none, or the same weights to the last bit: the latents of others mean something else."""
    if one.vae is None or other.vae is None:
        return one.vae is other.vae
    states = one.vae.state_dict(), other.vae.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def _refuse_trained_run(folder: Path) -> None:
    """Raises ValueError where a folder holds a run that was trained, not mixed."""
    file = folder / CONFIG_FILE
    if (folder / "checkpoints").exists() or (
        file.is_file() and RECORD not in json.loads(file.read_text(encoding="utf-8"))
    ):
        raise ValueError(f"{folder} holds a training run, which a mixture would overwrite; pass another --out.")

"""Which stages a chain has, with which settings, and where each finds what it starts from."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from training.config import StageConfig, TaughtConfig
from training.presets import PRESETS

STAGES: Mapping[str, tuple[str, ...]] = {
    "mini": ("autoencoder", "finest", "teacher", "adc", "pix"),
    "sd21": ("base", "teacher", "adc", "pix"),
}
"""Preset => its stages, in the order of training."""
EXPORTS: Mapping[str, str] = {
    "autoencoder": "autoencoder",
    "base": "base",
    "finest": "gendr-pix",
    "teacher": "gendr",
    "adc": "gendr-adc",
    "pix": "gendr-pix",
}
"""Stage => folder of its export within `weights`."""
TAUGHT = ("finest", "teacher", "adc", "pix")
"""Stages that a pixel teacher concerns."""


@dataclass(frozen=True)
class Step:
    """Something made of the weights of earlier stages."""

    folder: Path
    inputs: Mapping[str, Path]
    """Stage => its exported weights."""

    @property
    def record(self) -> Path:
        """Where it is written down what the step was made of."""
        return self.folder / "inputs.json"


@dataclass(frozen=True)
class Task(Step):
    """One stage of the chain."""

    stage: str
    config: StageConfig

    @property
    def weights(self) -> Path:
        """The folder of its export."""
        return self.folder / "weights" / EXPORTS[self.stage]


@dataclass(frozen=True)
class Plan:
    """A whole chain."""

    runs: Path
    model: str
    tasks: tuple[Task, ...]


def make_plan(data: Path, runs: Path, preset: str, source: str, autoencoder: str, taught: TaughtConfig) -> Plan:
    """The stages of a preset with all paths filled in.

    Raises ValueError for an unknown preset, for settings that no stage has, and where a needed source is not named.
    """
    name, changes = _read_preset(preset)
    stages = [stage for stage in STAGES[name] if not (stage == "autoencoder" and autoencoder)]
    if name == "sd21" and not autoencoder:
        raise ValueError("sd21 needs a 16-channel autoencoder: pass --autoencoder FOLDER or ID (docs/training.md).")
    if name == "mini" and source:
        raise ValueError("mini has no stage that starts from --source; pass --preset sd21, or leave it out.")
    unknown = sorted(changes.keys() - set(stages))
    if unknown:
        raise ValueError(
            f"{preset} has settings for {', '.join(unknown)}; this chain's stages are {', '.join(stages)}."
        )
    tasks: dict[str, Task] = {}
    for stage in stages:
        config: Any = overlaid(PRESETS[stage][name], changes.get(stage, {}), stage)
        config = dataclasses.replace(
            config,
            run=runs / stage,
            data=dataclasses.replace(config.data, folder=data),
            **({"taught": taught} if stage in TAUGHT and taught.teacher else {}),
        )
        config, inputs = _connected(config, stage, tasks, source, autoencoder)
        tasks[stage] = Task(runs / stage, inputs, stage, config)
    models = {task.config.model for task in tasks.values()}
    precisions = {task.config.loop.mixed_precision for task in tasks.values()}
    if len(models) > 1 or len(precisions) > 1:
        raise ValueError(
            f"The stages have the models {', '.join(sorted(models))} and the precisions "
            f"{', '.join(sorted(precisions))}; a chain has one of each."
        )
    return Plan(runs, models.pop(), tuple(tasks.values()))


def _connected(
    config: Any, stage: str, earlier: Mapping[str, Task], source: str, autoencoder: str
) -> tuple[Any, dict[str, Path]]:
    """A stage's settings with what it starts from, and which earlier weights these are."""
    wanted = {
        "base": {"autoencoder": "autoencoder"},
        "teacher": {"autoencoder": "autoencoder", "base": "base", "finest": "body"},
        "adc": {"teacher": "teacher"},
        "pix": {"teacher": "teacher", "adc": "adc", "finest": "start"},
    }.get(stage, {})
    inputs = {made: earlier[made].weights for made in wanted if made in earlier}
    named: dict[str, str] = {wanted[made]: str(path) for made, path in inputs.items()}
    if "autoencoder" in wanted and autoencoder:
        named["autoencoder"] = autoencoder
    if stage == "base" and source:
        named["source"] = source
    return dataclasses.replace(config, **named), inputs


def _read_preset(preset: str) -> tuple[str, dict[str, Any]]:
    """The name of a preset, and the settings that a file lays over it."""
    if preset in STAGES:
        return preset, {}
    try:
        with Path(preset).open("rb") as file:
            document = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"--preset is {preset!r}; expected {', '.join(STAGES)}, or a TOML file with settings ({error})."
        ) from error
    name = document.pop("preset", "mini")
    if name not in STAGES:
        raise ValueError(f"{preset} is laid over the preset {name!r}; expected one of {', '.join(STAGES)}.")
    return name, document


def overlaid(config: Any, changes: Mapping[str, Any], place: str) -> Any:
    """Settings with others laid over them, nested as they are, each checked for its type. Raises ValueError."""
    words: list[str] = []
    _as_words(changes, "", words, place, config)
    try:
        return tyro.cli(type(config), default=config, args=words, prog=place, console_outputs=False)
    except SystemExit as error:
        raise ValueError(f"The settings of {place} do not fit: {dict(changes)}; see its --help.") from error


def _as_words(changes: Mapping[str, Any], before: str, words: list[str], place: str, config: Any) -> None:
    """Options of the command line for nested settings."""
    for name, value in changes.items():
        if not hasattr(config, name):
            raise ValueError(
                f"{place} has no setting {before}{name}; see python -m training {place.split('.')[0]} --help."
            )
        option = f"--{before}{name}".replace("_", "-")
        if isinstance(value, dict):
            _as_words(value, f"{before}{name}.", words, f"{place}.{name}", getattr(config, name))
        elif isinstance(value, bool):
            switch = option if value else "--" + f"{before}no-{name}".replace("_", "-")
            words.append(switch)
        else:
            words += [option, *(str(one) for one in (value if isinstance(value, list) else [value]))]

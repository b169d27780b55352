"""What a step of a chain was made of, so that a finished one is skipped and a stale one is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from gendrpix.files import digest_file, write_text
from gendrpix.weights.load import INDEX_FILE
from gendrpix.weights.verify import digest_weights
from training.config import StageConfig
from training.tools.chain_plan import Step, Task
from training.tools.merge import CONFIG_FILE

FREE = ("run", "resume", "dry_run")
"""Settings that change nothing in the weights."""
FREE_OF_LOOP = ("tracker", "checkpoint_every", "keep_checkpoints", "sample_every")


def is_finished(step: Step) -> bool:
    """Whether a step is done. Raises ValueError where it was begun with other settings or from other weights."""
    if isinstance(step, Task):
        _check_settings(step)
        return step.weights.is_dir()
    return step.record.is_file() and json.loads(step.record.read_text(encoding="utf-8")) == _digests(step)


def check_inputs(step: Step) -> None:
    """Raise ValueError where a finished step was made of other weights than there are now."""
    if not step.record.is_file():
        return  # trained by the stage's own command
    made_of = json.loads(step.record.read_text(encoding="utf-8"))
    others = [stage for stage, digest in _digests(step).items() if made_of.get(stage) != digest]
    if others:
        raise ValueError(
            f"{step.folder} was made of other weights of {', '.join(others)} than there are now; move it and what "
            "follows it away, or pass other --runs."
        )


def record_inputs(step: Step) -> None:
    """Write down what a step is made of."""
    if isinstance(step, Task):
        check_inputs(step)  # of a run that is resumed
    step.folder.mkdir(parents=True, exist_ok=True)
    write_text(step.record, json.dumps(_digests(step), indent=2) + "\n")


def _digests(step: Step) -> dict[str, str]:
    return {stage: _digest(folder) for stage, folder in step.inputs.items() if folder.is_dir()}


def _digest(folder: Path) -> str:
    """SHA-256 of a restorer's folder, or of an autoencoder's."""
    if (folder / INDEX_FILE).is_file():
        return digest_weights(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    told = "\n".join(f"{path.name} {digest_file(path)}" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()


def _check_settings(task: Task) -> None:
    file = task.folder / CONFIG_FILE
    if not file.is_file():
        return
    begun, asked = _weighty(json.loads(file.read_text(encoding="utf-8"))), _weighty(_plain(task.config))
    others = sorted(name for name in begun.keys() | asked.keys() if begun.get(name) != asked.get(name))
    if others:
        told = ", ".join(f"{name} {begun.get(name)!r}, now {asked.get(name)!r}" for name in others[:4])
        raise ValueError(
            f"{task.folder} was begun with other settings ({told}); pass the earlier ones, move the folder and what "
            "follows it away, or pass other --runs."
        )


def _plain(config: StageConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


def _weighty(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings on which weights depend, by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in FREE:
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": one for key, one in value.items()})
        else:
            flat[name] = value
    for name in (*(f"loop.{one}" for one in FREE_OF_LOOP), "data.num_workers"):
        flat.pop(name, None)
    return flat

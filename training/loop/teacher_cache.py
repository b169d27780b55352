"""The teacher's targets, computed once and kept on disk, for runs that see the same samples again.

A sample's number stands for its crop and its degradation, so its target is known by that number, the teacher's
weights, the data settings and the seed. A single run sees each sample once and gains nothing: a later run with the
same data and seed, such as another student or a row of an ablation, does not run the teacher and its autoencoder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gendrpix.restore.pipelines import GenDRPipeline
from training.config import AdversarialConfig
from training.data.crops import Crops
from training.teachers.pixel_teacher import weights_hash

logger = logging.getLogger(__name__)

SHARD_SAMPLES = 256
STORED = torch.float16
"""Half the size of float32; a picture in [-1, 1] keeps steps of 1/2048 or finer, a sixteenth of an 8-bit step."""

Targets = Mapping[str, Tensor]
"""Name => (B, ...), one row a sample."""


class TargetCache:
    """Targets by sample number in safetensors shards of `SHARD_SAMPLES` numbers, in `folder`.

    Each process writes part files of its own, beside and renamed, whenever a shard ends and at `flush`; what a kill
    interrupts is computed again. What is computed is given back as it is stored, rounded to float16, so that a run
    that fills the cache and one that reads it see the same numbers. Without a folder everything passes unchanged.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.hits, self.misses = 0, 0
        self._fresh: dict[str, Tensor] = {}
        self._fresh_shard = -1
        self._open_shard = -1
        self._stored: dict[str, Any] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"The target cache {folder} cannot be written ({error}); pass another.") from error

    def __call__(self, indices: Sequence[int], compute: Callable[[], Targets], device: torch.device) -> Targets:
        """The targets of a batch of sample numbers: from disk where all are there, else from `compute`."""
        if self.folder is None:
            return compute()
        found = [self._find(index) for index in indices]
        ready = [one for one in found if one is not None]
        if len(ready) == len(indices):
            self.hits += len(indices)
            return {name: torch.stack([one[name].float() for one in ready]).to(device) for name in ready[0]}
        computed = {name: values.to(STORED) for name, values in compute().items()}
        self.misses += len(indices)
        for row, index in enumerate(indices):
            if found[row] is None:
                self._keep(index, {name: values[row].cpu().contiguous() for name, values in computed.items()})
        return {name: values.float() for name, values in computed.items()}

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self.folder is None or not self._fresh:
            return
        first = min(int(key.partition("/")[0]) for key in self._fresh)
        final = self.folder / f"{self._fresh_shard:08d}-{first:012d}.safetensors"
        partial = final.with_name(f".{final.name}.partial")
        try:
            save_file(self._fresh, partial)
            partial.rename(final)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            logger.warning("The targets from sample %d on could not be kept (%s); training goes on", first, error)
        self._fresh = {}
        self._open_shard = -1  # read again: it has a new part

    def _keep(self, index: int, target: Mapping[str, Tensor]) -> None:
        shard = index // SHARD_SAMPLES
        if shard != self._fresh_shard:
            self.flush()
            self._fresh_shard = shard
        self._fresh.update({f"{index}/{name}": value for name, value in target.items()})

    def _find(self, index: int) -> dict[str, Tensor] | None:
        """One sample's stored targets, if they are on disk."""
        assert self.folder is not None
        shard = index // SHARD_SAMPLES
        if shard != self._open_shard:
            self._open_shard, self._stored = shard, {}
            for path in sorted(self.folder.glob(f"{shard:08d}-*.safetensors")):
                part: Any = safe_open(path, framework="pt")
                self._stored.update(dict.fromkeys(part.keys(), part))
        names = [key for key in self._names() if f"{index}/{key}" in self._stored]
        if not names:
            return None
        return {name: self._stored[key].get_tensor(key) for name in names if (key := f"{index}/{name}")}

    def _names(self) -> list[str]:
        """The names of the targets in the open shard."""
        return sorted({key.partition("/")[2] for key in self._stored})


def open_targets(config: AdversarialConfig, stage: str, teacher: GenDRPipeline, crops: Crops) -> TargetCache:
    """The cache that belongs to a stage's teacher, data and seed, within the settings' folder."""
    if config.target_cache is None:
        return TargetCache(None)
    key = targets_key(config, stage, teacher, crops)
    logger.info("%s: the teacher's targets are kept in %s", stage, config.target_cache / key)
    return TargetCache(config.target_cache / key)


def targets_key(config: AdversarialConfig, stage: str, teacher: GenDRPipeline, crops: Crops) -> str:
    """The name of a cache: a digest of all that a target depends on but its sample's number."""
    told = {
        "stage": stage,
        "weights": weights_hash(teacher),
        "form": teacher.config.form,
        "timestep": teacher.config.timestep,
        **({} if teacher.alpha_bar is None else {"alpha_bar": teacher.alpha_bar}),
        "data": config.data.sample_settings(),
        "photos": crops.fingerprint(),
        "seed": config.loop.seed,
        "mixed_precision": config.loop.mixed_precision,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

"""Loads each restorer once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gendrpix.restore.pipelines import RestorerPipeline, load_restorer
from gendrpix.specs import (
    DEFAULT_SPEEDUPS,
    Speedup,
    restorer_of,
)
from gendrpix.weights.load import find_restorer_folder
from gendrpix.weights.verify import digest_weights


class RestorerCache:
    """Loads each pipeline once, on first use, for all threads; "gendr-pix" and "gendr-pix*" share one."""

    def __init__(
        self,
        weights: str | Path = "mini",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        speedups: Sequence[Speedup] = DEFAULT_SPEEDUPS,
    ) -> None:
        self.weights = weights
        self.speedups = tuple(speedups)
        self.device = torch.device(device)
        self.dtype = dtype
        self._lock = threading.Lock()
        self._pipelines: dict[str, RestorerPipeline] = {}
        self._digests: dict[str, str] = {}

    def __call__(self, name: str) -> RestorerPipeline:
        """The pipeline of a restorer or choice. Raises ValueError where there are no weights of it."""
        name = restorer_of(name)
        with self._lock:
            if name not in self._pipelines:
                self._pipelines[name] = load_restorer(
                    name, self.weights, device=self.device, dtype=self.dtype, speedups=self.speedups
                )
            return self._pipelines[name]

    def digest(self, name: str) -> str:
        """SHA-256 of the weights of a restorer or choice, computed once. Raises ValueError where there are none."""
        name = restorer_of(name)
        if name not in self._digests:
            self._digests[name] = digest_weights(find_restorer_folder(name, self.weights))
        return self._digests[name]


def load_all(cache: RestorerCache, choices: Sequence[str]) -> Mapping[str, RestorerPipeline]:
    """Load the pipelines of all choices ahead of the first run, so that missing weights are said at once."""
    return {choice: cache(choice) for choice in choices}

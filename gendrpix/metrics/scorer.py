"""The quality metrics by name, and a scorer that says why one of them is missing.

pyiqa computes all but the grid score. LPIPS's weights with SqueezeNet are bundled, most others are downloaded. Where
they cannot be had, the scorer remembers the reason, in a sentence, and never puts another metric under the same name.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gendrpix.metrics.fidelity import check_pair, psnr_y, ssim_y, unit_range
from gendrpix.metrics.grid import grid_score
from gendrpix.metrics.registry import (
    BUNDLED_LPIPS_NET,
    DEFAULT_METRICS,
    LPIPS_LABELS,
    METRICS,
    LpipsNet,
    MetricSpec,
    find_metric,
)
from gendrpix.metrics.weight_files import check_reachable, load_lpips, weight_files

logger = logging.getLogger(__name__)
PYIQA_NAMES: Mapping[str, str] = MappingProxyType({"maniqa": "maniqa-pipal"})
"""What pyiqa calls a metric, where that differs: published tables use MANIQA trained on PIPAL."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One picture's metrics: a value or, in a sentence, the reason why there is none."""

    values: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    lpips_net: LpipsNet | None = None
    """LPIPS's trunk, where there is an LPIPS."""


class Scorer:
    """Computes metrics by name; loads each once, on first use. Safe to use from several threads."""

    def __init__(
        self,
        metrics: Iterable[str] = DEFAULT_METRICS,
        *,
        device: torch.device | str = "cpu",
        lpips_net: LpipsNet = BUNDLED_LPIPS_NET,
        remember: bool = False,
    ) -> None:
        """remember: keep LPIPS's features of a truth for the next picture: faster for many results of one truth."""
        self.names = tuple(dict.fromkeys(metrics))
        for name in self.names:
            find_metric(name)
        device = torch.device(device)
        self.device = device if device.type == "cuda" else torch.device("cpu")  # pyiqa needs float64
        self.lpips_net: LpipsNet = lpips_net
        self.remember = remember
        self._lock = threading.Lock()
        self._loaded: dict[str, Callable[..., Tensor]] = {}
        self._unavailable: dict[str, str] = {}

    def score(self, image: Tensor, truth: Tensor | None = None) -> Scores:
        """Score (B, 3, H, W) float in [-1, 1] as it is given, without rounding; means over the batch.

        Metrics that need a truth are left out without one. Raises ValueError where the truth has another shape.
        """
        if truth is not None:
            check_pair(image, truth)
        image = image.to(self.device)
        truth = None if truth is None else truth.to(self.device)
        values: dict[str, float] = {}
        missing: dict[str, str] = {}
        for name in self.names:
            spec = METRICS[name]
            if spec.needs_truth and truth is None:
                continue
            reason = self._too_small(spec, image) or self.unavailable(name)
            if reason is not None:
                missing[name] = reason
                continue
            try:
                value = self._compute(name, image, truth if spec.needs_truth else None)
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
                # NIQE of a smooth picture
                missing[name] = f"{spec.label} is not defined for this picture: its statistics have no covariance."
                continue
            except Exception as error:
                logger.warning("%s could not be computed", name, exc_info=True)
                said = f"{type(error).__name__}: {error}".rstrip(".")
                missing[name] = f"{spec.label} could not be computed for this picture ({said})."
                continue
            if value == value and abs(value) != float("inf"):
                values[name] = value
            else:
                missing[name] = f"{spec.label} is not defined for this picture: it gave {value}."
        return Scores(values=values, missing=missing, lpips_net=self.lpips_net if "lpips" in values else None)

    def unavailable(self, name: str) -> str | None:
        """None if the metric can be computed here, else the reason as a sentence. Loads it on the first call."""
        if name in ("psnr", "ssim", "grid"):
            return None
        with self._lock:
            if name not in self._loaded and name not in self._unavailable:
                try:
                    self._loaded[name] = self._load(name)
                except (OSError, RuntimeError, ImportError) as error:
                    logger.info("%s could not be loaded", name, exc_info=True)
                    self._unavailable[name] = _reason(METRICS[name], error)
            return self._unavailable.get(name)

    def label(self, name: str) -> str:
        """The metric's label, with the trunk for LPIPS."""
        label = METRICS[name].label
        return f"{label} ({LPIPS_LABELS[self.lpips_net]})" if name == "lpips" else label

    def _too_small(self, spec: MetricSpec, image: Tensor) -> str | None:
        height, width = image.shape[-2:]
        if min(height, width) >= spec.min_px:
            return None
        return f"{spec.label} needs at least {spec.min_px} pixels a side; the picture has {width} x {height}."

    def _compute(self, name: str, image: Tensor, truth: Tensor | None) -> float:
        if name == "grid":
            return grid_score(image)
        if name in ("psnr", "ssim"):
            assert truth is not None
            return (psnr_y if name == "psnr" else ssim_y)(image, truth)
        pair = (image,) if truth is None else (image, truth)
        with self._lock, torch.inference_mode():
            return float(self._loaded[name](*(unit_range(one) for one in pair)).mean())

    def _load(self, name: str) -> Callable[..., Tensor]:
        """The pyiqa metric. Raises OSError where its weights are neither here nor within reach."""
        import pyiqa

        for file, url in weight_files(name, self.lpips_net).items():
            if not file.is_file():
                check_reachable(url)
        with contextlib.redirect_stdout(io.StringIO()):  # pyiqa prints where it loads from
            if name == "lpips":
                made = load_lpips(self.lpips_net, self.device)
            else:
                made = pyiqa.create_metric(PYIQA_NAMES.get(name, name), device=self.device)
        if name == "lpips" and self.remember:
            made.net.net = RememberingTrunk(made.net.net)
        metric: Callable[..., Tensor] = made
        return metric


class RememberingTrunk(nn.Module):
    """LPIPS's feature network with the features of the last two pictures: a truth beside one result after another."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self._seen: list[tuple[Tensor, Any]] = []

    def forward(self, pixels: Tensor) -> Any:
        """What the trunk gives for (B, 3, H, W)."""
        for place, (known, features) in enumerate(self._seen):
            if known.shape == pixels.shape and torch.equal(known, pixels):
                self._seen.insert(0, self._seen.pop(place))
                return features
        features = self.trunk(pixels)
        self._seen = [(pixels, features), *self._seen][:2]
        return features


def _reason(spec: MetricSpec, error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{spec.label} is not available: it could not be loaded ({type(error).__name__}: {error})."
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    said = str(cause) or type(cause).__name__
    return f"{spec.label} is not available: its weights could not be downloaded ({said.rstrip('.')})."

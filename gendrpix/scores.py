"""The quality metrics by name, and a scorer that says why one of them is missing.

pyiqa computes all but the grid score. Most of its metrics download weights; where they cannot be had, the scorer
remembers the reason, in a sentence, and never puts another metric under the same name.
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
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import huggingface_hub
import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from gendrpix.measure import GRID_MIN_PX, SSIM_MIN_PX, check_pair, grid_score, psnr_y, ssim_y, unit_range

logger = logging.getLogger(__name__)

LpipsNet = Literal["alex", "squeeze", "vgg"]
PROBE_TIMEOUT_S = 5.0
"""How long the server of missing weights may take to answer before they count as out of reach."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One quality metric, as the page, the command line and the reports name it."""

    name: str
    label: str
    higher_is_better: bool
    needs_truth: bool = False
    min_px: int = 1
    """Shortest side for which it is defined, in pixels."""
    unit: str = ""
    digits: int = 2

    @property
    def direction(self) -> str:
        """ "higher is better" or "lower is better"."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def heading(self) -> str:
        """Label, unit and an arrow in the better direction."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.label}{unit} {'↑' if self.higher_is_better else '↓'}"


METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            MetricSpec(name="psnr", label="PSNR-Y", higher_is_better=True, needs_truth=True, unit="dB"),
            MetricSpec(
                name="ssim", label="SSIM-Y", higher_is_better=True, needs_truth=True, min_px=SSIM_MIN_PX, digits=4
            ),
            MetricSpec(name="lpips", label="LPIPS", higher_is_better=False, needs_truth=True, min_px=32, digits=4),
            MetricSpec(name="dists", label="DISTS", higher_is_better=False, needs_truth=True, min_px=32, digits=4),
            MetricSpec(name="musiq", label="MUSIQ", higher_is_better=True, min_px=32),
            MetricSpec(name="clipiqa", label="CLIPIQA", higher_is_better=True, min_px=32, digits=4),
            MetricSpec(name="maniqa", label="MANIQA (PIPAL)", higher_is_better=True, min_px=224, digits=4),
            MetricSpec(name="niqe", label="NIQE", higher_is_better=False, min_px=192),
            MetricSpec(name="piqe", label="PIQE", higher_is_better=False, min_px=32),
            MetricSpec(name="grid", label="Grid score", higher_is_better=False, min_px=GRID_MIN_PX, unit="dB"),
        )
    }
)
"""Every metric that can be asked for. PSNR, SSIM, PIQE and the grid score need no weights."""

DEFAULT_METRICS = ("psnr", "ssim", "lpips", "musiq", "piqe", "grid")
"""What the page and the command line show; those that need a truth only where there is one."""

PYIQA_NAMES: Mapping[str, str] = MappingProxyType({"maniqa": "maniqa-pipal"})
"""What pyiqa calls a metric, where that differs: published tables use MANIQA trained on PIPAL."""

LPIPS_LABELS: Mapping[LpipsNet, str] = MappingProxyType({"alex": "AlexNet", "squeeze": "SqueezeNet", "vgg": "VGG"})


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
        lpips_net: LpipsNet = "alex",
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
        options: dict[str, Any] = {"net": self.lpips_net} if name == "lpips" else {}
        with contextlib.redirect_stdout(io.StringIO()):  # pyiqa prints where it loads from
            made = pyiqa.create_metric(PYIQA_NAMES.get(name, name), device=self.device, **options)
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


def find_metric(name: str) -> MetricSpec:
    """The metric of that name. Raises ValueError naming the known ones."""
    if name not in METRICS:
        raise ValueError(f"Unknown metric {name!r}: expected one of {', '.join(METRICS)}.")
    return METRICS[name]


def weight_files(name: str, lpips_net: LpipsNet = "alex") -> dict[Path, str]:
    """The files, each with its address, that pyiqa reads for a metric; it downloads those that are not there."""
    from pyiqa.utils.download_util import DEFAULT_CACHE_DIR

    urls: list[str] = []
    files: dict[Path, str] = {}
    if name == "musiq":
        from pyiqa.archs.musiq_arch import default_model_urls as musiq_urls

        urls = [musiq_urls["koniq10k"]]
    elif name == "niqe":
        from pyiqa.archs.niqe_arch import default_model_urls as niqe_urls

        urls = [niqe_urls["url"]]
    elif name == "dists":
        from pyiqa.archs.dists_arch import default_model_urls as dists_urls
        from torchvision import models

        files.update([_trunk_file(models.VGG16_Weights.IMAGENET1K_V1.url)])
        urls = [dists_urls["url"]]
    elif name == "clipiqa":
        from pyiqa.archs.clip_model import _MODELS as clip_urls

        trunk = clip_urls["RN50"]
        files[Path(torch.hub.get_dir()) / "clip" / trunk.rsplit("/", 1)[-1]] = trunk
    elif name == "maniqa":
        from pyiqa.archs.maniqa_arch import default_model_urls as maniqa_urls

        files.update([_timm_file("vit_base_patch8_224")])
        urls = [maniqa_urls["pipal"]]
    elif name == "lpips":
        from pyiqa.archs.lpips_arch import default_model_urls as lpips_urls
        from torchvision import models

        trunks = {
            "alex": models.AlexNet_Weights.IMAGENET1K_V1,
            "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
            "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        }
        files.update([_trunk_file(trunks[lpips_net].url)])
        urls = [lpips_urls[f"0.1_{lpips_net}"]]
    files.update({Path(DEFAULT_CACHE_DIR) / url.rsplit("/", 1)[-1]: url for url in urls})
    return files


def _trunk_file(url: str) -> tuple[Path, str]:
    """Where torchvision keeps the weights of that address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _timm_file(model: str) -> tuple[Path, str]:
    """Where timm keeps a model's default weights, which it takes from the hub."""
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    assert config is not None and config.hf_hub_id is not None
    repository, file = config.hf_hub_id, "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    path = Path(cached) if isinstance(cached, str) else Path(constants.HF_HUB_CACHE) / repository / file
    return path, huggingface_hub.hf_hub_url(repository, file)


def check_reachable(url: str) -> None:
    """Raise OSError unless the server of `url` answers soon, or if HF_HUB_OFFLINE forbids downloads."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if not url.startswith("https://"):
        raise OSError(f"{url} is no https address")
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "gendrpix"})  # noqa: S310 - https
    with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):  # noqa: S310 - checked above
        pass


def _reason(spec: MetricSpec, error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{spec.label} is not available: it could not be loaded ({type(error).__name__}: {error})."
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    said = str(cause) or type(cause).__name__
    return f"{spec.label} is not available: its weights could not be downloaded ({said.rstrip('.')})."

"""The metrics by name: what each needs and how its values are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gendrpix.metrics.fidelity import SSIM_MIN_PX
from gendrpix.metrics.grid import GRID_MIN_PX

LpipsNet = Literal["alex", "squeeze", "vgg"]
BUNDLED_LPIPS_NET: LpipsNet = "squeeze"
"""LPIPS's trunk whose weights come with the package; the others are downloaded. Published tables mostly use AlexNet."""


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
    caution: str = ""
    """A sentence on what it cannot see, to stand where its values are shown; empty where none is needed."""

    @property
    def direction(self) -> str:
        """ "higher is better" or "lower is better"."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def heading(self) -> str:
        """Label, unit and an arrow in the better direction."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.label}{unit} {'↑' if self.higher_is_better else '↓'}"


NIQE_CAUTION = (
    "NIQE takes made-up texture for sharpness and does not know the input. "
    "A low value alone does not mean a good result."
)
PIQE_CAUTION = (
    "PIQE takes noise for sharpness: noise of sigma 4 on a bicubic enlargement brings it from 88 to 14, where the true "
    "photo has 24. A low value alone does not mean a good result."
)
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
            MetricSpec(name="niqe", label="NIQE", higher_is_better=False, min_px=192, caution=NIQE_CAUTION),
            MetricSpec(name="piqe", label="PIQE", higher_is_better=False, min_px=32, caution=PIQE_CAUTION),
            MetricSpec(name="grid", label="Grid score", higher_is_better=False, min_px=GRID_MIN_PX, unit="dB"),
        )
    }
)
"""Every metric that can be asked for. PSNR, SSIM, PIQE and the grid score need no weights; LPIPS's come along."""

DEFAULT_METRICS = ("psnr", "ssim", "lpips", "musiq", "grid")
"""What the page and the command line show; those that need a truth only where there is one."""
LPIPS_LABELS: Mapping[LpipsNet, str] = MappingProxyType({"alex": "AlexNet", "squeeze": "SqueezeNet", "vgg": "VGG"})


def find_metric(name: str) -> MetricSpec:
    """The metric of that name. Raises ValueError naming the known ones."""
    if name not in METRICS:
        raise ValueError(f"Unknown metric {name!r}: expected one of {', '.join(METRICS)}.")
    return METRICS[name]

"""An evaluation as it is written down: headings, how the figures were made, the Markdown report."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gendrpix import __version__
from gendrpix.devices import describe_device
from gendrpix.metrics.registry import METRICS
from gendrpix.metrics.scorer import Scorer
from gendrpix.report.tables import Table
from training.cases import Cases
from training.entrants import Entrant
from training.tables import (
    CONFIDENCE,
    NUM_RESAMPLES,
    Interval,
    Row,
    difference_table,
    incomplete_notes,
    summary_table,
)

if TYPE_CHECKING:
    from training.evaluate import EvaluateConfig

METHOD = (
    f"Means with {CONFIDENCE:.0%} percentile bootstrap intervals over pictures ({NUM_RESAMPLES:,} resamples).",
    "PSNR and SSIM on Y (BT.601), no border crop; everything is scored rounded to 8 bits.",
    "The grid score shows a pattern of 8 pixels: compare it with the truth's; a high one casts doubt on the rest.",
)
"""What a reader must know of every evaluation's figures."""


def make_headings(scorer: Scorer) -> dict[str, str]:
    """Metric => column heading, with LPIPS's trunk."""
    return {name: METRICS[name].heading.replace(METRICS[name].label, scorer.label(name)) for name in scorer.names}


def describe(
    config: EvaluateConfig, cases: Cases, entrants: Sequence[Entrant], rows: Sequence[Row], scorer: Scorer
) -> dict[str, Any]:
    """How the figures were made: set, weights, device, versions. Folders by name only."""
    sizes = sorted({(row.width_px, row.height_px) for row in rows})
    computed = [row for row in rows if row.dtype]
    place = Path(config.weights)
    return {
        "gendrpix": __version__,
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
        "pyiqa": importlib.metadata.version("pyiqa"),
        "python": platform.python_version(),
        "set": cases.label,
        "num_pictures": len(cases),
        "sizes_px": [f"{width} x {height}" for width, height in sizes],
        "scale": cases.scale,
        "weights": place.resolve().name if place.is_dir() else config.weights,
        "weights_sha256": {entrant.name: entrant.weights for entrant in entrants if entrant.weights},
        "labels": {entrant.name: entrant.label for entrant in entrants},
        "guidance": list(config.guidance),
        "pos_pad": config.pos_pad,
        "neg_pad": config.neg_pad,
        "plain_cfg": config.plain_cfg,
        "attention": list(config.attention) or ["as loaded"],
        "device": computed[0].device if computed else describe_device(torch.device("cpu")),
        "dtype": computed[0].dtype if computed else "float32",
        "repeats": config.repeats,
        "lpips_net": config.lpips_net,
        "metrics": list(scorer.names),
        "headings": make_headings(scorer),
    }


def to_markdown(rows: Sequence[Row], header: Mapping[str, Any], against: str, headings: Mapping[str, str]) -> str:
    """The report: how it was made, the means, the paired differences, what is missing and why."""
    digests = ", ".join(f"{name} `{digest}`" for name, digest in header["weights_sha256"].items())
    lines = [
        f"# {header['set']}",
        "",
        f"{describe_size(header)} Weights: " + (f"{header['weights']} ({digests})." if digests else "none."),
        f"Time is warm wall time a picture on {header['device']}, {header['dtype']}; gendrpix {header['gendrpix']}, "
        f"torch {header['torch']}. Peak memory is without weights, except on CUDA.",
        "",
        summary_table(rows, headings).to_markdown(),
        "",
    ]
    compared: Table = difference_table(rows, against, headings)
    if compared.rows:
        lines += ["Paired differences, picture by picture:", "", compared.to_markdown(), ""]
    notes = [*describe_autoencoder(header), *METHOD, *incomplete_notes(rows)]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def describe_size(header: Mapping[str, Any]) -> str:
    """How many pictures of which size, as a sentence."""
    sizes = header["sizes_px"]
    shown = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"
    count = header["num_pictures"]
    return f"{count} picture{'s' if count > 1 else ''}, results of {shown} px."


def describe_autoencoder(header: Mapping[str, Any]) -> list[str]:
    """A sentence on the autoencoder alone, where it was scored."""
    found = header.get("autoencoder")
    if not found:
        return []
    text = Interval.from_dict(found["psnr_rgb_db"]).to_text(2)
    return [
        f"The autoencoder alone, D(E(truth)): PSNR over R, G and B {text} dB (whole pictures, cropped to multiples "
        "of 8)."
    ]

"""What windows and pooling cost against full attention, as the Markdown of docs/performance.

    python -m benchmarks.attention_quality PHOTOS --truths 768 1536 --larger 2048 3072 > table.md

PHOTOS is a folder of training photos: only those that training holds out are used. --truths: outputs of at most these
sides with a known truth, the photo's middle, degraded. --larger: outputs with this longer side, without a truth: the
photo is reduced to a quarter of it. Only GenDR-Pix* is measured, the one restorer that is all attention and no VAE.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from gendrpix.comparison.degrade import Degradation, crop_clean, degrade
from gendrpix.devices import pick_dtype
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.image.resize import resize
from gendrpix.metrics.fidelity import psnr_y
from gendrpix.metrics.grid import grid_score, seam_score
from gendrpix.models.attention import ATTENTION_KINDS, window_borders
from gendrpix.restore.pipelines import RestorerPipeline, load_restorer
from gendrpix.specs import PATCH
from training.data.photos import PhotoFolder


def run(pipeline: RestorerPipeline, kind: str, pixels: Tensor) -> tuple[Tensor, float]:
    """(the result rounded to 8 bits, processor seconds)."""
    pipeline.set_attention(kind)
    start = time.process_time()
    restored = pipeline.restore(pixels).float()
    seconds = time.process_time() - start
    return ((restored + 1) * 127.5).round() / 127.5 - 1, seconds


def seam(pipeline: RestorerPipeline, x: Tensor) -> float:
    """The seam score at the borders of the first level's windows, of both layouts."""
    window = pipeline.window_tokens[0]
    lines = [
        [PATCH * border for shifted in (False, True) for border in window_borders(size, window, shifted=shifted)]
        for size in (-(-side // PATCH) for side in x.shape[-2:])
    ]
    return seam_score(x, *lines)


def measure(pipeline: RestorerPipeline, picture: Tensor, truth: Tensor | None) -> dict[str, dict[str, float]]:
    """Kind => figures, for one input (1, 3, h, w)."""
    pixels = pipeline.prepare(Picture(color=picture), 4.0)
    figures: dict[str, dict[str, float]] = {}
    whole, seconds = run(pipeline, "full", pixels)
    for kind in ATTENTION_KINDS:
        result, taken = (whole, seconds) if kind == "full" else run(pipeline, kind, pixels)
        figures[kind] = {"seconds": taken, "grid": grid_score(result), "seam": seam(pipeline, result)}
        if kind != "full":
            figures[kind]["to_full"] = psnr_y(result, whole)
        if truth is not None:
            figures[kind]["psnr"] = psnr_y(result, truth)
    return figures


def table(title: str, rows: list[dict[str, dict[str, float]]]) -> str:
    """Means over the photos."""
    names = [name for name in ("psnr", "to_full", "grid", "seam", "seconds") if any(name in r["window"] for r in rows)]
    heads = {
        "psnr": "PSNR-Y to the truth, dB",
        "to_full": "PSNR-Y to full, dB",
        "grid": "grid score, dB",
        "seam": "seam score, dB",
        "seconds": "processor seconds",
    }
    lines = [
        f"{title}, {len(rows)} photos",
        "",
        "| attention | " + " | ".join(heads[n] for n in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for kind in ATTENTION_KINDS:
        cells = []
        for name in names:
            values = [row[kind][name] for row in rows if name in row[kind]]
            cells.append(f"{fmean(values):.{3 if name == 'psnr' else 2}f}" if values else "-")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--truths", type=int, nargs="*", default=[768, 1536])
    parser.add_argument("--larger", type=int, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=1000, help="photos of each size")
    options = parser.parse_args()
    pipeline = load_restorer("gendr-pix", options.weights, dtype=pick_dtype(options.dtype))
    photos = [open_picture(path).color for path in PhotoFolder(options.photos, part="held-out").paths][: options.most]
    print(f"GenDR-Pix\\*, {options.weights}, {pipeline.unet.dtype}, {torch.get_num_threads()} threads.\n")
    for side in options.truths:
        rows = []
        for number, photo in enumerate(photos):
            truth = crop_clean(photo, 4, side)
            rows.append(measure(pipeline, degrade(truth, Degradation(seed=number)), truth))
            print(f"{side}: {number + 1}/{len(photos)}", file=sys.stderr, flush=True)
        print(table(f"Output of at most {side} px a side", rows), flush=True)
    for side in options.larger:
        rows = []
        for number, photo in enumerate(photos):
            factor = side / 4 / max(photo.shape[-2:])
            small = resize(photo, *(round(length * factor) for length in photo.shape[-2:]))
            rows.append(measure(pipeline, small, None))
            print(f"{side}: {number + 1}/{len(photos)}", file=sys.stderr, flush=True)
        print(table(f"Output with a longer side of {side} px", rows), flush=True)


if __name__ == "__main__":
    main()

"""How far each restorer moves broad colours, with each correction, as the Markdown of docs/performance.

    python -m benchmarks.color_drift PHOTOS > table.md

PHOTOS is a folder of training photos: those that training holds out, their middle of at most 512 px, degraded. Drift
is the mean difference of the low frequencies (`color_fix.low_band`) between result and truth, in levels of 255.
"""

import argparse
from pathlib import Path
from statistics import fmean

from gendrpix.comparison.degrade import Degradation, crop_clean, degrade
from gendrpix.image.color_fix import correct_color, low_band
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.metrics.fidelity import psnr_y
from gendrpix.restore.pipelines import load_restorer
from gendrpix.specs import COLOR_FIXES
from training.data.photos import PhotoFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", default="mini")
    options = parser.parse_args()
    truths = [
        crop_clean(open_picture(path).color, 4, 512) for path in PhotoFolder(options.photos, part="held-out").paths
    ]
    print("| restorer | correction | drift, levels | PSNR-Y, dB |\n|---|---|---:|---:|")
    for name, label in (("gendr-pix", "GenDR-Pix\\*"), ("gendr-adc", "GenDR-Adc"), ("gendr", "GenDR")):
        pipeline = load_restorer(name, options.weights)
        figures: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("input", *COLOR_FIXES)}
        for number, truth in enumerate(truths):
            pixels = pipeline.prepare(Picture(color=degrade(truth, Degradation(seed=number))), 4.0)
            restored = pipeline.restore(pixels)
            results = {kind: correct_color(restored, pixels, kind) for kind in COLOR_FIXES} | {"input": pixels}
            for kind, result in results.items():
                drift = float(low_band(result - truth).abs().mean()) * 127.5
                figures[kind].append((drift, psnr_y(result, truth)))
        for kind, pairs in figures.items():
            if kind == "input" and name != "gendr-pix":
                continue
            shown = "the enlarged input" if kind == "input" else label
            drift, psnr = (fmean(column) for column in zip(*pairs, strict=True))
            print(f"| {shown} | {'-' if kind == 'input' else kind} | {drift:.2f} | {psnr:.3f} |", flush=True)


if __name__ == "__main__":
    main()

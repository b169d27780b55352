"""Each named speed-up's gain and change of the output on the CPU, as the Markdown of docs/performance.

    python -m benchmarks.speed_options assets/examples/cat.png > table.md

Processor seconds of one restoration to four times the size, the least of the repeats; gain and change are against
float32 without any speed-up. The change is the mean and the largest difference of the pixels, in levels of 255.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gendrpix.image.read import open_picture
from gendrpix.restore.pipelines import load_restorer
from gendrpix.specs import CHOICE_LABELS, Speedup

WAYS: Sequence[tuple[str, torch.dtype, tuple[Speedup, ...]]] = (
    ("plain", torch.float32, ()),
    ("fused", torch.float32, ("fused",)),
    ("channels_last_unet", torch.float32, ("channels_last_unet",)),
    ("channels_last_vae", torch.float32, ("channels_last_vae",)),
    ("compiled", torch.float32, ("compiled",)),
    ("bfloat16", torch.bfloat16, ()),
    ("bfloat16, channels_last_vae", torch.bfloat16, ("channels_last_vae",)),
    ("bfloat16, fused", torch.bfloat16, ("fused",)),
    ("bfloat16, channels_last_unet", torch.bfloat16, ("channels_last_unet",)),
    ("bfloat16, compiled", torch.bfloat16, ("compiled",)),
)


def best_of(repeats: int, run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """(the least processor seconds, the result) after one run that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--restorers", nargs="*", default=["gendr-pix", "gendr-adc", "gendr"])
    parser.add_argument("--without-compilation", action="store_true")
    options = parser.parse_args()
    picture = open_picture(options.photo)
    print("| restorer | numbers and speed-ups | processor seconds | gain | mean change | largest |")
    print("|---|---|---:|---:|---:|---:|")
    for name in options.restorers:
        plain_seconds, plain = 0.0, torch.empty(0)
        for label, dtype, speedups in WAYS:
            lays_out_only = name == "gendr-pix" and "channels_last_vae" in speedups
            if lays_out_only or (options.without_compilation and "compiled" in speedups):
                continue  # no autoencoder to lay out
            pipeline = load_restorer(name, options.weights, dtype=dtype, speedups=speedups)
            pixels = pipeline.prepare(picture, 4.0)
            seconds, result = best_of(options.repeats, lambda p=pipeline, x=pixels: p.restore(x).float())
            if label == "plain":
                plain_seconds, plain = seconds, result
            change = (result - plain).abs() * 127.5
            shown = CHOICE_LABELS[name] + ("\\*" if name == "gendr-pix" else "")
            print(
                f"| {shown} | {label} | {seconds:.3f} | {plain_seconds / seconds:.2f} | {change.mean():.3f} "
                f"| {change.max():.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""`python -m benchmarks.loader_speed PHOTOS`: what making training samples costs one loader worker, a line a preset.

Processor time, not wall time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from gendrpix.report.tables import Table
from training.config import DataConfig
from training.data.crops import Crops, open_crops

PRESETS = ("mild", "photo", "adcsr", "real-esrgan", "mixed")


def seconds_each(crops: Crops, count: int) -> float:
    """Processor seconds a sample, the photos being decoded already."""
    for _ in crops.samples(0, 2):
        pass
    start = time.process_time()
    for _ in crops.samples(2, count):
        pass
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--crop-px", type=int, nargs="+", default=[128, 512])
    words = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for side in words.crop_px:
        for preset in PRESETS:
            config = DataConfig(folder=words.photos, degradation=preset, crop_px=side)
            seconds = seconds_each(open_crops(config, seed=0)[0], words.count)
            lines.append((preset, f"{side}", f"{1000 * seconds:.1f}", f"{1 / seconds:.1f}"))
    print(
        Table(header=("Degradation", "Crop, px", "ms a sample", "Samples/s a worker"), rows=tuple(lines)).to_markdown()
    )


if __name__ == "__main__":
    main()

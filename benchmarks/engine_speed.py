"""Processor time and parity of exported files against torch, as the Markdown of docs/performance/export.md.

    python -m gendrpix export gendr-pix -o exported --format onnx      (and openvino, ncnn)
    python -m benchmarks.engine_speed assets/examples/astronaut.jpg exported/* --size 128x128

One thread, one picture of that size cut from the photo's middle. All ways take turns, so that a busy machine slows
each of them alike; the least processor seconds of the repeats count. Changes are against the pipeline in float32, in
levels of 255. Networks of others (--peer NAME=MODEL.param) are timed alone.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gendrpix.engines.running import Floats, Runner, open_exported
from gendrpix.image.read import open_picture
from gendrpix.image.resize import resize
from gendrpix.restore.pipelines import load_restorer

SUFFIXES = (".onnx", ".xml", ".param")


def run_torch(dtype: torch.dtype, weights: str) -> Runner:
    """The pipeline at scale 4, enlargement included."""
    pipeline = load_restorer("gendr-pix", weights, dtype=dtype)

    def run(picture: Floats) -> Floats:
        height, width = picture.shape[-2:]
        pixels = resize(torch.from_numpy(picture) * 2 - 1, 4 * height, 4 * width).to(dtype)
        restored: Floats = (pipeline.restore(pixels).float().numpy() + 1) / 2
        return restored

    return run


def take_turns(runs: dict[str, Callable[[], Floats]], repeats: int) -> dict[str, float]:
    """The least processor seconds of each, after one run that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: min(times) for name, times in seconds.items()}


def middle(photo: Path, width: int, height: int) -> Floats:
    """(1, 3, height, width) in [0, 1] from the middle of a photo."""
    color = (open_picture(photo).color + 1) / 2
    top, left = (color.shape[-2] - height) // 2, (color.shape[-1] - width) // 2
    if min(top, left) < 0:
        raise SystemExit(f"{photo.name} is smaller than {width} x {height}; choose a larger photo.")
    return np.ascontiguousarray(color[..., top : top + height, left : left + width].numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--peer", default=[], nargs="*", metavar="NAME=MODEL.param")
    parser.add_argument("--size", default="128x128", metavar="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weights", default="mini")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    picture = middle(options.photo, width, height)
    engines = {
        "torch float32": run_torch(torch.float32, options.weights),
        "torch bfloat16": run_torch(torch.bfloat16, options.weights),
        **{path.name: open_exported(path) for path in options.files if path.suffix in SUFFIXES},
    }
    peers = {name: open_exported(Path(place)) for name, place in (word.split("=") for word in options.peer)}
    with torch.inference_mode():
        results = {name: run(picture) for name, run in engines.items()}
        runs = {name: (lambda run=run: run(picture)) for name, run in (engines | peers).items()}
        seconds = take_turns(runs, options.repeats)
    exact = results["torch float32"]
    print(f"{width} x {height} => {4 * width} x {4 * height}, one thread, least of {options.repeats}\n")
    print("| | processor seconds | times as fast as torch float32 | mean change | largest |")
    print("|---|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        cells = ("", "")
        if name in results:
            change = np.abs(results[name].clip(0, 1) - exact) * 255
            cells = (f"{change.mean():.4f}", f"{change.max():.4f}")
        print(f"| {name} | {taken:.3f} | {seconds['torch float32'] / taken:.2f} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()

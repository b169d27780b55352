"""What a sweep over 64 offsets costs against 64 separate GenDR-Pix runs: `python -m benchmarks.sweep_cost`.

256 x 256 pixels of a bundled photo, the grid score of each result. CPU time of all threads, which other programs do
not change much, and wall time.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gendrpix import load_restorer, open_picture
from gendrpix.comparison.sweep import ALL_OFFSETS, BranchBank, sweep_offsets
from gendrpix.image.picture import Picture
from gendrpix.metrics.grid import grid_score

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "examples" / "cat.png"
FIXED, OMEGA = (3, 3), 1.5


def costs(job: Callable[[], list[float]]) -> tuple[float, float, list[float]]:
    """(CPU seconds, wall seconds, figures)."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    figures = job()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--side", type=int, default=256, help="of the result, pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="offsets predicted at once")
    parser.add_argument("--rounds", type=int, default=2, help="the quicker of so many counts")
    options = parser.parse_args()
    pipeline = load_restorer("gendr-pix", options.weights)
    side = options.side // 4
    picture = open_picture(PHOTO)
    pixels = pipeline.prepare(Picture(color=picture.color[..., :side, :side].clone()), 4.0)

    def separate() -> list[float]:
        runs = (pipeline.restore_guided(pixels, OMEGA, pos_pad=one, neg_pad=FIXED)[0] for one in ALL_OFFSETS)
        return [grid_score(run) for run in runs]

    def swept(batch: int) -> list[float]:
        bank = BranchBank(pipeline, pixels)
        return [cell.value for cell in sweep_offsets(bank, "positive", FIXED, OMEGA, grid_score, batch=batch)]

    pipeline.restore_guided(pixels, OMEGA)  # warm-up
    jobs = {"64 separate runs": separate}
    jobs |= {f"sweep, {batch} at once": lambda batch=batch: swept(batch) for batch in options.batches}
    best = {
        name: min((costs(job) for _ in range(options.rounds)), key=lambda one: one[0]) for name, job in jobs.items()
    }
    cpu_s, _, figures = best["64 separate runs"]
    print(f"{options.side} x {options.side} pixels, {torch.get_num_threads()} threads, weights {options.weights}")
    for name, (cpu, wall, found) in best.items():
        apart = max(abs(a - b) for a, b in zip(figures, found, strict=True))
        print(
            f"{name:18}  {cpu:6.2f} s CPU  {wall:6.2f} s wall  {cpu_s / cpu:4.2f} times less  apart by {apart:.1e} dB"
        )


if __name__ == "__main__":
    main()

"""Predicted and measured peaks of memory over 22 configurations on the CPU, as the Markdown of docs/performance.

    python -m benchmarks.memory_table > table.md
    python -m benchmarks.memory_table --rows 0 6 8  # some of them

The exit code is 1 where a prediction is off by more than 15%.
Each configuration runs in a process of its own, forked before anything was loaded or computed: peak resident set above
the weights, in the mode that is used where memory is scarce (`memory.tight_memory`).
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from dataclasses import dataclass

import torch

from gendrpix.metrics.profiling import measure_peak
from gendrpix.restore.memory import tight_memory
from gendrpix.restore.pipelines import RestorerPipeline, load_restorer
from gendrpix.restore.planner import Plan, predict_peak, run_plan
from gendrpix.specs import CHOICE_LABELS

CPU = torch.device("cpu")
ALLOWED = 0.15
"""Largest error of a prediction, as a share of what was measured."""


@dataclass(frozen=True)
class Row:
    """One configuration."""

    choice: str
    width: int
    height: int
    dtype: str = "bfloat16"
    attention: str = "auto"
    batched: bool = True
    tile: int | None = None

    @property
    def how(self) -> str:
        passes = "one pass" if self.choice != "gendr-pix" else "PadCFG, batched" if self.batched else "PadCFG, in turn"
        return passes + (f", tiles of {self.tile}" if self.tile else "")


ROWS = (
    Row("gendr-pix*", 256, 256),
    Row("gendr-pix*", 512, 512),
    Row("gendr-pix*", 512, 512, "float32"),
    Row("gendr-pix*", 1024, 1024),
    Row("gendr-pix*", 1024, 1024, "float32"),
    Row("gendr-pix*", 2048, 1152),
    Row("gendr-pix*", 640, 400, attention="window"),
    Row("gendr-pix*", 768, 768, attention="pooled"),
    Row("gendr-pix*", 768, 768, "float32", attention="full"),
    Row("gendr-pix*", 1536, 1536, tile=512),
    Row("gendr-pix", 512, 512, batched=True),
    Row("gendr-pix", 512, 512, batched=False),
    Row("gendr-pix", 1024, 768, "float32", batched=False),
    Row("gendr-pix", 1024, 1024, batched=True),
    Row("gendr-pix", 1024, 1024, "float32", tile=512),
    Row("gendr-adc", 512, 512),
    Row("gendr-adc", 512, 512, "float32"),
    Row("gendr-adc", 1024, 1024),
    Row("gendr-adc", 1024, 768, tile=256),
    Row("gendr", 256, 256, "float32"),
    Row("gendr", 512, 512),
    Row("gendr", 1024, 768, "float32"),
)


def load(row: Row, weights: str) -> RestorerPipeline:
    pipeline = load_restorer(row.choice.rstrip("*"), weights, dtype=getattr(torch, row.dtype))
    pipeline.set_attention(row.attention)
    return pipeline


def measure(row: Row, weights: str) -> int:
    """Bytes at the peak of one restoration in this process, above what it held when the weights were loaded."""
    pipeline = load(row, weights)
    omega = 1.5 if row.choice == "gendr-pix" else None
    plan = Plan(batched=row.batched, tile_px=row.tile, predicted_bytes=0, explanation="")
    with torch.inference_mode(), tight_memory(CPU), measure_peak(CPU) as peak:
        pixels = torch.rand(1, 3, row.height, row.width).to(pipeline.unet.dtype) * 2 - 1
        run_plan(pipeline, pixels, omega, plan, keep_branches=True, how={})
    return peak.bytes


def in_child(row: Row, weights: str) -> int:
    """`measure` in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "wb") as answer:
            pickle.dump(measure(row, weights), answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        number: int = pickle.load(answer)
    os.waitpid(child, 0)
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--rows", type=int, nargs="+", default=range(len(ROWS)), metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| restorer | result, px | numbers | attention | how | measured, MB | predicted, MB | error |")
    print("|---|---|---|---|---|---:|---:|---:|")
    errors = []
    rows = [ROWS[number] for number in options.rows]
    peaks = [in_child(row, options.weights) for row in rows]  # all before this process loads anything
    for row, peak in zip(rows, peaks, strict=True):
        pipeline = load(row, options.weights)
        guided = row.choice == "gendr-pix"
        predicted = predict_peak(pipeline, row.height, row.width, guided=guided, batched=row.batched, tile_px=row.tile)
        errors.append(predicted / peak - 1)
        label = CHOICE_LABELS[row.choice].replace("*", "\\*")
        print(
            f"| {label} | {row.width} x {row.height} | {row.dtype} | {row.attention} | {row.how} | {peak / 1e6:.0f} "
            f"| {predicted / 1e6:.0f} | {errors[-1]:+.0%} |",
            flush=True,
        )
    worst, mean = max(map(abs, errors)), sum(map(abs, errors)) / len(errors)
    print(f"\nThe largest error of these {len(errors)} is {worst:.0%}, the mean {mean:.0%}.")
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())

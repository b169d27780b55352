"""`python -m training STAGE --preset mini --data FOLDER --run FOLDER`: every stage, and the tools around them."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from gendrpix.errors import quiet_about_pipes
from training.config import StageConfig
from training.loop.run import TrainingStopped
from training.presets import PRESETS

DATA_VARIABLE = "GENDRPIX_DATA"
TOOLS: Mapping[str, tuple[str, str]] = {
    "ablate": ("studies.ablate", "AblateConfig"),
    "bundle": ("tools.bundle", "BundleConfig"),
    "chain": ("tools.chain", "ChainConfig"),
    "draw": ("tools.draw", "DrawConfig"),
    "evaluate": ("evaluation.evaluate", "EvaluateConfig"),
    "interpolate": ("tools.merge", "InterpolateConfig"),
    "judge": ("evaluation.judge.judge", "JudgeConfig"),
    "offsets": ("tools.offsets", "OffsetsConfig"),
    "photos": ("tools.photos", "PhotosConfig"),
    "preview": ("tools.preview", "PreviewConfig"),
    "survey": ("studies.survey", "SurveyConfig"),
    "targets": ("tools.targets", "TargetsConfig"),
}
"""Name of a tool, and of its function => its module in `training`, and the class of its settings there."""


@quiet_about_pipes
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage or tool; 0 on success, 1 with a sentence on a fault of the input or of the run."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    stage, rest = (words[0], words[1:]) if words else ("", [])
    if stage not in PRESETS and stage not in TOOLS:
        print(f"usage: python -m training {{{','.join(PRESETS)}}} --preset NAME --data FOLDER --run FOLDER")
        print(f"       python -m training {{{','.join(TOOLS)}}} --help")
        return 0 if stage in ("-h", "--help") else 2
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING  # one voice for all processes
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    for library in (
        "httpx",
        "accelerate",
        "pyiqa",
        "gendrpix.metrics.scorer",
    ):  # what a scorer lacks, evaluate says itself
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it comes with pyiqa and tells what it cannot speed up
    try:
        if stage in TOOLS:
            print(f"{stage}: {use_tool(stage, rest)}")
            return 0
        config = parse(stage, rest)
        if config.dry_run:
            print(importlib.import_module("training.tools.dry_run").describe(config, stage))
            return 0
        train = importlib.import_module(f"training.stages.{stage}").train
        weights = train(config)
    except (ValueError, OSError, TrainingStopped) as error:  # OSError: a full disk, a folder that may not be written
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{stage}: weights in {weights}")
    return 0


def use_tool(name: str, words: Sequence[str]) -> Path:
    """Run one tool with the options of the command line; gives back what it wrote."""
    place, settings = TOOLS[name]
    module = importlib.import_module(f"training.{place}")
    config: Any = tyro.cli(getattr(module, settings), args=words, prog=f"python -m training {name}")
    written: Path = getattr(module, name)(config)
    return written


def parse(stage: str, words: Sequence[str]) -> StageConfig:
    """The stage's preset with the options of the command line laid over it."""
    presets, words = PRESETS[stage], list(words)
    name = "mini"
    if "--preset" in words:
        at = words.index("--preset")
        name = words[at + 1] if at + 1 < len(words) else ""
        del words[at : at + 2]
    if name not in presets:
        raise ValueError(f"{stage} has no preset {name!r}; expected one of {', '.join(presets)}.")
    default = presets[name]
    if folder := os.environ.get(DATA_VARIABLE):
        data = dataclasses.replace(default.data, folder=Path(folder))
        default = dataclasses.replace(default, data=data)
    return tyro.cli(type(default), default=default, args=words, prog=f"python -m training {stage} --preset {name}")


if __name__ == "__main__":
    sys.exit(main())

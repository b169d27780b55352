"""DeepSpeed ZeRO-2 and FSDP change the weights as an undivided run does, and export their average."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import save_tiny_family
from tests.helpers.sharding import start_sharded
from tests.helpers.stages import WEIGHTS, stage_words

STEPS = 5
BATCH = 4
"""Of all processes together."""
RATE = 1e-2
DEEPSPEED = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
KINDS = [pytest.param("zero2", 1, marks=DEEPSPEED), ("fsdp", 2)]
LIMITS = {"no": 0.01, "bf16": 0.05}


def exported(
    folder: Path, photos: Path, stage: str, kind: str, processes: int, precision: str, rate: float = RATE
) -> torch.Tensor:
    """All weights that a run of five steps exports, as one vector."""
    family = folder / "family"
    if not family.exists():
        save_tiny_family(family, ("gendr", "gendr-adc"))
    loop = {"learning_rate": rate, "final_learning_rate": rate, "warmup_steps": 0, "ema_decay": 0.9}
    loop |= {"mixed_precision": precision, "checkpoint_every": STEPS, "sample_every": STEPS}
    run = folder / f"{stage}-{kind}-{precision}-{rate:g}"
    words = stage_words(stage, family, photos, run, steps=STEPS, batch=BATCH // processes, **loop)
    words += ["--fit-crops", "0"]  # an exact fit would leave L1 at its kink, where rounding decides the gradient
    words += ["--finish-crops", "0"] if stage == "pix" else []
    children = start_sharded(words, kind, processes)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * processes, "their words are above"
    restorer = load_restorer(WEIGHTS[stage], run / "weights")
    return torch.cat([weight.flatten().double() for weight in restorer.unet.state_dict().values()])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("stage", ["adc", "pix"])
@pytest.mark.parametrize(("kind", "processes"), KINDS)
@pytest.mark.usefixtures("tiny")
def test_divided_runs_change_the_weights_as_undivided_ones(
    tmp_path: Path, photos: Path, stage: str, kind: str, processes: int, precision: str
) -> None:
    start = exported(tmp_path, photos, stage, "whole", 1, precision, rate=0.0)
    one = exported(tmp_path, photos, stage, "whole", 1, precision)
    divided = exported(tmp_path, photos, stage, kind, processes, precision)
    change = (one - start).norm()
    assert change > 0.01 * start.norm(), "the comparison must compare something"
    apart = float((divided - one).norm() / change)
    print(f"{kind} {stage} {precision}: change {float(change):.3f}, apart {apart:.2e}")
    assert apart <= LIMITS[precision]

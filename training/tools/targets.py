"""`python -m training targets`: compute a pixel teacher's pictures ahead of the runs that learn from them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from gendrpix.image.write import save_png, to_pil
from training.config import DataConfig, TaughtConfig
from training.data.crops import NUM_HELD_OUT, open_held_out_crops, open_training_crops
from training.teachers.pixel_teacher import digest_picture
from training.teachers.taught import BLOCK, open_store


@dataclass(frozen=True, kw_only=True)
class TargetsConfig:
    """Which crops of which photos, and the teacher; the same settings in a run find the pictures again."""

    data: DataConfig = field(default_factory=DataConfig)
    taught: TaughtConfig = field(default_factory=TaughtConfig)
    inputs: Path | None = None
    """Write the degraded pictures to this folder instead, for a network that runs elsewhere; a folder of its
    outputs under the same names is then a teacher."""

    def __post_init__(self) -> None:
        if self.inputs is None and (not self.taught.teacher or self.taught.folder is None):
            raise ValueError("Pass --taught.teacher and --taught.folder: whose pictures to compute, and where they go.")


def targets(config: TargetsConfig) -> Path:
    """Fill the store, block by block; what is there already is left. Returns its folder."""
    if config.inputs is not None:
        return _write_inputs(config, config.inputs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = open_store(config.taught, config.data, Path(), device)
    with tqdm(range(store.num_blocks), desc=f"targets, blocks of {BLOCK}", mininterval=10) as bar:
        computed = sum(store.ensure(block) for block in bar)
        bar.set_postfix_str(f"{computed} computed")
    return store.folder


def _write_inputs(config: TargetsConfig, folder: Path) -> Path:
    crops = open_training_crops(config.data, config.taught.seed, crop_px=config.taught.crop_px)
    checked = open_held_out_crops(config.data).samples(0, NUM_HELD_OUT)  # a run is checked on these
    samples = itertools.chain(checked, crops.samples(0, config.taught.count))
    folder.mkdir(parents=True, exist_ok=True)
    for sample in tqdm(samples, total=NUM_HELD_OUT + config.taught.count, desc="inputs", mininterval=10):
        save_png(to_pil(sample.small), folder / f"{digest_picture(sample.small)}.png", overwrite=True)
    return folder

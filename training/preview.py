"""`python -m training preview`: a sheet of training samples to look at, each with what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gendrpix.image.write import save_png, to_pil
from training.config import DataConfig
from training.data import contact_sheet, open_crops


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """A contact sheet: the degraded picture, the model's input, the target."""

    data: DataConfig = field(default_factory=DataConfig)
    out: Path
    """The PNG to write."""
    pairs: Path | None = None
    """Folder for the samples as files too: lq (degraded, small) and hq, as `evaluate --pairs` reads them."""
    count: int = 8
    """Samples shown."""
    start: int = 0
    """Number of the first sample."""
    seed: int = 0
    """The run's seed: the sheet shows the samples that a run with this seed trains on."""
    part: Literal["train", "held-out"] = "train"
    """Which photos; the held-out samples do not depend on the seed."""
    overwrite: bool = False
    """Replace the file if it exists."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.start < 0:
            raise ValueError(f"count is {self.count} and start {self.start}; expected at least 1 and at least 0.")


def preview(config: PreviewConfig) -> Path:
    """Write the sheet. Raises ValueError where there are no photos or the file exists."""
    train, held_out = open_crops(config.data, config.seed)
    crops = train if config.part == "train" else held_out
    sheet = contact_sheet(crops, config.count, config.start)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    written = save_png(sheet, config.out, overwrite=config.overwrite)
    if config.pairs is not None:
        for index, sample in enumerate(crops.samples(config.start, config.count), start=config.start):
            for side, pixels in (("lq", sample.small), ("hq", sample.hq)):
                (config.pairs / side).mkdir(parents=True, exist_ok=True)
                save_png(to_pil(pixels), config.pairs / side / f"{index:06d}.png", overwrite=config.overwrite)
    return written

"""`python -m training preview`: a sheet of training samples to look at, each with what was done to it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from gendrpix.image.write import save_png, to_pil
from training.config import DataConfig
from training.data.crops import Crops, open_crops


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


def contact_sheet(dataset: Crops, count: int, start: int = 0) -> Image.Image:
    """Rows of degraded picture (its pixels enlarged), model input x and target, each with what was done to
    it."""
    side, gap, text_px = dataset.settings.crop_px, 4, 28
    sheet = Image.new("RGB", (3 * side + 4 * gap, count * (side + gap + text_px) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for row, sample in enumerate(dataset.samples(start, count)):
        top = gap + row * (side + gap + text_px)
        done = sample.plan.describe() if sample.plan else "clean"
        caption = textwrap.wrap(f"{'negative: ' if sample.negative else ''}{done}", sheet.width // 6, max_lines=2)
        pen.multiline_text((gap, top), "\n".join(caption), fill="black", spacing=1)
        for column, tensor in enumerate((sample.small, sample.lq, sample.hq)):
            picture = to_pil(tensor)
            if picture.width != side:
                picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (gap + column * (side + gap), top + text_px))
    return sheet

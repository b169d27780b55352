"""The tuner's settings: widget values <=> guidance, region and sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gendrpix.settings.presets import PRESETS, guided
from gendrpix.settings.restoration import Kind, RestoreSettings
from gendrpix.specs import DEFAULT_OMEGA, NEG_PAD, POS_PAD, Offset
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.request import Photo
from gendrpix.ui.runs.sweep import Region, SweepKey
from gendrpix.ui.widgets.checks import check_filled

OWN = "Own"
METRIC_LABELS = {"grid": "Grid score (dB)", "piqe": "PIQE", "musiq": "MUSIQ"}
KINDS: Mapping[str, Kind] = {**{name: preset.kind for name, preset in PRESETS.items()}, OWN: "padcfg"}


@dataclass(frozen=True, kw_only=True)
class Swept:
    """A sweep as the visitor's session knows it."""

    region: Region
    key: SweepKey
    values: Mapping[Offset, float]

    @property
    def higher_is_better(self) -> bool:
        return core.METRICS[self.key.metric].higher_is_better

    @property
    def best(self) -> Offset | None:
        """The best offset so far."""
        if not self.values:
            return None
        pick = max if self.higher_is_better else min
        return pick(self.values, key=lambda offset: self.values[offset])


def as_guidance(preset: str, omega: float, *offsets: float) -> RestoreSettings:
    """The widgets' values as settings. Raises SettingsError."""
    check_filled(omega, *offsets)
    pos_rows, pos_columns, neg_rows, neg_columns = (int(offset) for offset in offsets)
    return guided(KINDS[preset], omega, (pos_rows, pos_columns), (neg_rows, neg_columns))


def as_offsets(omega: float, *offsets: float) -> tuple[float, tuple[Offset, Offset]]:
    """The widgets' omega and offsets of both runs, whatever the preset uses of them. Raises SettingsError."""
    settings = as_guidance(OWN, omega, *offsets)
    assert settings.guidance is not None and settings.pos_pad is not None and settings.neg_pad is not None
    return settings.guidance, (settings.pos_pad, settings.neg_pad)


def as_widgets(settings: RestoreSettings) -> list[Any]:
    """Settings as the widgets' values: preset, omega, offsets."""
    pos_pad, neg_pad = settings.pos_pad or POS_PAD, settings.neg_pad or NEG_PAD
    paper = (pos_pad, neg_pad) == (POS_PAD, NEG_PAD)
    names = {"plain": "Plain CFG", "none": "None (Pix*)", "padcfg": "Paper" if paper else OWN}
    omega = DEFAULT_OMEGA if settings.guidance is None else settings.guidance
    return [names[settings.kind], omega, *pos_pad, *neg_pad]


def as_region(photo: Photo | None, across: float, down: float, side: float, scale: float) -> Region:
    """The widgets' values as a region. Raises ValueError without a photo."""
    if not photo:
        raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
    check_filled(across, down, scale)
    return Region(
        photo=Path(photo["path"]), across=across / 100, down=down / 100, side_px=int(side), scale=float(scale)
    )


def taken(swept: Swept | None, offset: Offset | None, omega: float, pos: Offset, neg: Offset) -> list[Any]:
    """The guidance widgets' values with the swept branch at that offset; nothing where there is none."""
    if swept is None or offset is None:
        return [gr.skip()] * 6
    pos, neg = (offset, neg) if swept.key.side == "positive" else (pos, offset)
    return [OWN, omega, *pos, *neg]

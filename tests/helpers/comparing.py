"""Runs of the compare tab without a browser."""

from pathlib import Path
from typing import Any

import torch

from gendrpix.image.picture import Picture
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.compare.tab import CompareTab
from gendrpix.ui.engine.request import Job, Request
from gendrpix.ui.engine.results import Results

OFFSET_NAMES = ("pos_rows", "pos_columns", "neg_rows", "neg_columns")


def as_photo(path: Path | str) -> dict[str, str]:
    """A file as Gradio describes an upload."""
    return {"path": str(path), "orig_name": Path(path).name}


def empty_results(photo: Path, photo_name: str = "photo.png") -> Results:
    """A run of GenDR that has made nothing yet."""
    settings = RestoreSettings(scale=2)
    job = Job(picture=Picture(color=torch.zeros(1, 3, 8, 8)), names=("gendr",), settings=settings)
    return Results(job, Request(photo=photo, photo_name=photo_name, names=job.names, settings=settings))


def values(tab: CompareTab, **settings: Any) -> list[Any]:
    """What the inputs hold: as they stand at first, but for `settings`."""
    assert settings.keys() <= tab.inputs.keys()
    return [settings.get(name, widget.value) for name, widget in tab.inputs.items()]


def run(tab: CompareTab, photo: dict | None, restorers: list[str], **settings: Any) -> list[dict]:
    """All updates of one press of Run; scale 2 unless told otherwise."""
    return list(stream(tab, photo, restorers, **settings))


def stream(tab: CompareTab, photo: dict | None, restorers: list[str], **settings: Any) -> Any:
    """The same, one by one."""
    given = values(tab, photo=photo, restorers=restorers, **{"scale": 2.0, **settings})
    return tab.handlers.run_restorers([], None, *given, progress=lambda *args, **kwargs: None)

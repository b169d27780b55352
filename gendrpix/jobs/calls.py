"""A loaded restorer as a function of pictures, for jobs of files.

The command line and the page restore files through these, so that the same settings give the same pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from gendrpix.image.picture import Picture
from gendrpix.image.resize import output_size
from gendrpix.jobs.batch import Calls, RestoreCall, StreamCall, Streamed
from gendrpix.restore.restorer import OneStepRestorer
from gendrpix.restore.streaming import restore_to_png
from gendrpix.settings.restoration import RestoreSettings


def restore_call(
    restorer: OneStepRestorer, settings: RestoreSettings, say: Callable[[str], None] | None = None
) -> RestoreCall:
    """The loaded restorer as a function of pictures of one size; `say` hears once of what memory did not allow."""
    said: set[str] = set()

    def call(pictures: Sequence[Picture]) -> Sequence[torch.Tensor]:
        pixels = torch.cat([picture.color for picture in pictures])
        result = restorer.run(pixels, settings, grey=[picture.grey for picture in pictures])
        for note in result.notes:
            if say is not None and note not in said:
                say(note)
            said.add(note)
        return result.pixels.chunk(len(pictures))

    return call


def calls_of(
    restorer: OneStepRestorer,
    settings: RestoreSettings,
    say: Callable[[str], None] | None = None,
    *,
    overwrite: bool = False,
) -> Calls:
    """The loaded restorer as both functions that a job of files needs."""
    return Calls(restore_call(restorer, settings, say), stream_call(restorer, settings, overwrite=overwrite))


def stream_call(restorer: OneStepRestorer, settings: RestoreSettings, *, overwrite: bool = False) -> StreamCall:
    """The loaded restorer as a function that restores one picture into a PNG, with a bar for its rows."""

    def stream(picture: Picture, path: Path, entries: Mapping[str, str]) -> Streamed:
        with tqdm(total=1.0, leave=False, disable=None, file=sys.stderr, bar_format="{percentage:3.0f}%|{bar}|") as bar:
            plan = restore_to_png(
                restorer,
                picture,
                path,
                settings,
                overwrite=overwrite,
                metadata=entries,
                progress=lambda share: bar.update(share - bar.n),
            )
        scale = settings.scale_for(picture.width, picture.height)
        height, width = output_size(picture.height, picture.width, scale)
        return Streamed((width, height), (plan.explanation,))

    return stream

"""Tiny restorers, pictures and the pipeline's own results, for the tests of exported files."""

from pathlib import Path

import numpy as np
import torch

from gendrpix.engines.graph import Restorer
from gendrpix.engines.running import Floats, Runner
from gendrpix.image.resize import resize
from gendrpix.models import attention
from gendrpix.restore.pipelines import RestorerPipeline
from tests.helpers.models import TINY, tiny_pipeline

PADS = {"pos_pad": (0, 0), "neg_pad": (4, 3)}
SIZES = ((2, 3), (9, 7), (16, 16), (26, 38), (45, 41))
"""Height and width: smaller than a patch; odd, so that the result is padded; the size of training; odd multiples of 8
in the result (13 and 19); beyond the windows of both levels."""


def seeded_pipeline(form: str = "residual", *, far: bool = True) -> RestorerPipeline:
    """A tiny GenDR-Pix whose attention works in windows and whose pattern is taken away."""
    pipeline = tiny_pipeline("gendr-pix", form=form)
    attention.set_attention(pipeline.unet, "auto", TINY.window_tokens, far=far)
    pipeline.register_to_config(pattern_tokens=3)
    return pipeline


def seeded_restorer(pipeline: RestorerPipeline, guidance: float | None = None) -> Restorer:
    """The same as a graph."""
    return Restorer(pipeline, guidance=guidance, **PADS)


def pictures() -> dict[str, Floats]:
    """(1, 3, h, w) in [0, 1] by name: noise of all sizes, flat pictures, a sky of levels 200 and 201."""
    drawn = np.random.default_rng(5)
    found = {f"{h} x {w}": drawn.random((1, 3, h, w), dtype=np.float32) for h, w in SIZES}
    for name, level in (("black", 0.0), ("grey", 0.5), ("white", 1.0)):
        found[name] = np.full((1, 3, 22, 21), level, np.float32)
    sky = np.full((1, 3, 24, 24), 200 / 255, np.float32)
    sky[:, :, 12:] = 201 / 255
    return found | {"sky": sky}


def restored_by_torch(pipeline: RestorerPipeline, picture: Floats, guidance: float | None = None) -> Floats:
    """The pipeline's own result in [0, 1], from the picture as the command line enlarges it."""
    height, width = picture.shape[-2:]
    pixels = resize(torch.from_numpy(picture) * 2 - 1, 4 * height, 4 * width)
    how = {} if guidance is None else PADS
    restored, _ = pipeline.restore_guided(pixels, guidance, **how)
    return (restored.numpy() + 1) / 2


def assert_as_torch(
    run: Runner,
    pipeline: RestorerPipeline,
    guidance: float | None = None,
    *,
    largest: float = 0.02,
    least_px: int = 1,
) -> None:
    """Every picture's result is the pipeline's to `largest` levels of 255; those with a shorter side are left out."""
    for name, picture in pictures().items():
        if min(picture.shape[-2:]) < least_px:
            continue
        found, expected = run(picture), restored_by_torch(pipeline, picture, guidance)
        assert found.shape == expected.shape and found.dtype == np.float32, name
        assert np.isfinite(found).all(), name
        assert np.abs(found - expected).max() * 255 < largest, name


def write_all(folder: Path, contents: dict[str, bytes]) -> None:
    """Files by name."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)

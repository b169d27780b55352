"""A restoration as its options ask for it: what they may be, the recipe of its results, the model's call.

The command line and the page restore files through these, so that the same options give the same pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from gendrpix.image.picture import Picture
    from gendrpix.jobs.batch import RestoreCall, StreamCall
    from gendrpix.restore.pipelines import RestorerPipeline
    from gendrpix.settings.options import Common, Restore


def dtype_of(options: Common, device: torch.device) -> torch.dtype:
    """The dtype to compute in. "auto" is float32 where bfloat16 moves pixels by more than a level of 255 on average.

    That is so for 16-bit files, and on the CPU for restorers of latents: docs/performance has the figures. A
    comparison computes all restorers in one dtype, so that their times compare.
    """
    from gendrpix.devices import pick_dtype
    from gendrpix.settings.options import Restore
    from gendrpix.specs import find_restorer

    of_latents = isinstance(options, Restore) and find_restorer(options.restorer).writes == "latent"
    exact = options.bits == 16 or (of_latents and device.type == "cpu")
    return pick_dtype("float32" if options.dtype == "auto" and exact else options.dtype, device)


def restore_call(pipeline: RestorerPipeline, options: Restore, say: Callable[[str], None] | None = None) -> RestoreCall:
    """The loaded restorer as a function of pictures of one size; `say` hears once of what memory did not allow."""
    import torch

    from gendrpix.image.color_fix import correct_color, without_chroma
    from gendrpix.restore.planner import restore_within

    how: dict[str, Any] = {"pos_pad": options.pos_pad, "neg_pad": options.neg_pad}
    said: set[str] = set()

    @torch.inference_mode()
    def call(pictures: Sequence[Picture]) -> Sequence[torch.Tensor]:
        scale = scale_of(pictures[0], options)
        pixels = torch.cat([pipeline.prepare(picture, scale) for picture in pictures])
        fitted = restore_within(pipeline, pixels, options.guidance, tile=options.tile, **how)
        for note in fitted.notes:
            if say is not None and note not in said:
                say(note)
            said.add(note)
        corrected = correct_color(fitted.restored, pixels, options.color_fix).chunk(len(pictures))
        pairs = zip(corrected, pictures, strict=True)
        return [without_chroma(one) if picture.grey else one for one, picture in pairs]

    return call


def stream_call(pipeline: RestorerPipeline, options: Restore) -> StreamCall:
    """The loaded restorer as a function that restores one picture into a PNG, with a bar for its rows."""
    from tqdm import tqdm

    from gendrpix.image.resize import output_size
    from gendrpix.jobs.batch import Streamed
    from gendrpix.restore.streaming import restore_to_png

    def stream(picture: Picture, path: Path, entries: Mapping[str, str]) -> Streamed:
        scale = scale_of(picture, options)
        with tqdm(total=1.0, leave=False, disable=None, file=sys.stderr, bar_format="{percentage:3.0f}%|{bar}|") as bar:
            plan = restore_to_png(
                pipeline,
                picture,
                path,
                scale=scale,
                guidance=options.guidance,
                tile=options.tile or "auto",
                color_fix=options.color_fix,
                bits=options.bits,
                overwrite=options.overwrite,
                metadata=entries,
                progress=lambda share: bar.update(share - bar.n),
                pos_pad=options.pos_pad,
                neg_pad=options.neg_pad,
            )
        height, width = output_size(picture.height, picture.width, scale)
        return Streamed((width, height), (plan.explanation,))

    return stream


def scale_of(picture: Picture, options: Common) -> float:
    """The factor that --scale or --size asks for."""
    from gendrpix.settings.recipe import pick_scale

    return pick_scale(picture.width, picture.height, options.scale, options.size)

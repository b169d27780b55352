"""A restoration as its options ask for it: what they may be, the recipe of its results, the model's call.

The command line and the page restore files through these, so that the same options give the same pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendrpix import __version__
from gendrpix.specs import DEFAULT_SPEEDUPS

if TYPE_CHECKING:
    import torch

    from gendrpix.batch import Restore as RestoreCall
    from gendrpix.batch import Stream as StreamCall
    from gendrpix.images import Picture
    from gendrpix.options import Common, Restore
    from gendrpix.pipelines import RestorerPipeline


def check_common(options: Common) -> None:
    """Raise ValueError for numbers out of range, before anything is read or loaded."""
    from gendrpix.guidance import check_offset

    if options.scale is not None and options.size is not None:
        raise ValueError("--scale and --size say the same thing twice; give one of them.")
    if options.scale is not None and not 1.0 <= options.scale <= 8.0:
        raise ValueError(f"--scale is {options.scale}; expected 1 to 8.")
    if options.size is not None and options.size < 1:
        raise ValueError(f"--size is {options.size}; expected at least 1.")
    check_offset(options.pos_pad)
    check_offset(options.neg_pad)


def check_restore(options: Restore) -> None:
    """Raise ValueError for options that make no sense together."""
    from gendrpix.tiling import check_tile

    check_common(options)
    if options.guidance is not None and options.restorer != "gendr-pix":
        raise ValueError(f"--guidance is for gendr-pix only, not for {options.restorer}; leave it out.")
    for name, number in (("--batch", options.batch), ("--workers", options.workers)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1.")
    if isinstance(options.tile, int):
        check_tile(options.tile)
    if options.stream and options.batch > 1:
        raise ValueError(f"--stream restores one picture at a time; leave out --batch {options.batch}.")
    if options.stream and options.tile is None:
        raise ValueError("--stream restores in tiles; leave out --tile none.")
    if options.stream and options.color_fix == "adain":
        raise ValueError("--color-fix adain needs the whole picture at once; choose wavelet, or leave out --stream.")


def describe_recipe(options: Common, restorer: str, guidance: float | None, dtype: torch.dtype) -> dict[str, Any]:
    """How a result is made, as JSON values; no paths of the machine. dtype: what it was really computed in."""
    from gendrpix.options import Compare, Restore
    from gendrpix.recipe import DEFAULT_SCALE

    folder = Path(options.weights)
    size = {"scale": options.scale or DEFAULT_SCALE} if options.size is None else {"size": options.size}
    recipe: dict[str, Any] = {
        "restorer": restorer,
        "weights": folder.resolve().name if folder.is_dir() else options.weights,
        **size,
        "guidance": guidance,
        "dtype": str(dtype).removeprefix("torch."),
        "version": __version__,
    }
    if options.crop is not None:
        recipe["crop"] = options.crop
    if guidance is not None:
        plain = isinstance(options, Compare) and options.plain_cfg
        recipe.update({"plain_cfg": True} if plain else {"pos_pad": options.pos_pad, "neg_pad": options.neg_pad})
    if options.color_fix != "none":
        recipe["color_fix"] = options.color_fix
    if options.bits != 8:
        recipe["bits"] = options.bits
    if options.speedups != DEFAULT_SPEEDUPS:
        recipe["speedups"] = options.speedups
    if isinstance(options, Restore) and options.tile != "auto":
        recipe["tile"] = options.tile
    if isinstance(options, Restore) and options.stream:
        recipe["stream"] = True
    return recipe


def dtype_of(options: Common, device: torch.device) -> torch.dtype:
    """The dtype to compute in. "auto" is float32 where bfloat16 moves pixels by more than a level of 255 on average.

    That is so for 16-bit files, and on the CPU for restorers of latents: docs/performance.md has the figures. A
    comparison computes all restorers in one dtype, so that their times compare.
    """
    from gendrpix.devices import pick_dtype
    from gendrpix.options import Restore
    from gendrpix.specs import find_restorer

    of_latents = isinstance(options, Restore) and find_restorer(options.restorer).writes == "latent"
    exact = options.bits == 16 or (of_latents and device.type == "cpu")
    return pick_dtype("float32" if options.dtype == "auto" and exact else options.dtype, device)


def restore_call(pipeline: RestorerPipeline, options: Restore, say: Callable[[str], None] | None = None) -> RestoreCall:
    """The loaded restorer as a function of pictures of one size; `say` hears once of what memory did not allow."""
    import torch

    from gendrpix.color import correct_color
    from gendrpix.planner import restore_within

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
        return correct_color(fitted.restored, pixels, options.color_fix).chunk(len(pictures))

    return call


def stream_call(pipeline: RestorerPipeline, options: Restore) -> StreamCall:
    """The loaded restorer as a function that restores one picture into a PNG, with a bar for its rows."""
    from tqdm import tqdm

    from gendrpix.batch import Streamed
    from gendrpix.images import output_size
    from gendrpix.streaming import restore_to_png

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
    from gendrpix.recipe import pick_scale

    return pick_scale(picture.width, picture.height, options.scale, options.size)

"""A restoration as its options ask for it: what they may be, the recipe of its results, the model's call.

The command line and the page restore files through these, so that the same options give the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendrpix import __version__

if TYPE_CHECKING:
    import torch

    from gendrpix.batch import Restore as RestoreCall
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
    check_common(options)
    if options.guidance is not None and options.restorer != "gendr-pix":
        raise ValueError(f"--guidance is for gendr-pix only, not for {options.restorer}; leave it out.")
    for name, number in (("--batch", options.batch), ("--workers", options.workers)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1.")


def describe_recipe(options: Common, restorer: str, guidance: float | None) -> dict[str, Any]:
    """How a result is made, as JSON values; no paths of the machine."""
    from gendrpix.options import Compare
    from gendrpix.recipe import DEFAULT_SCALE

    folder = Path(options.weights)
    size = {"scale": options.scale or DEFAULT_SCALE} if options.size is None else {"size": options.size}
    recipe: dict[str, Any] = {
        "restorer": restorer,
        "weights": folder.resolve().name if folder.is_dir() else options.weights,
        **size,
        "guidance": guidance,
        "dtype": options.dtype,
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
    return recipe


def restore_call(pipeline: RestorerPipeline, options: Restore) -> RestoreCall:
    """The loaded restorer as a function of pictures of one size."""
    import torch

    from gendrpix.color import correct_color
    from gendrpix.recipe import pick_scale

    how: dict[str, Any] = {"pos_pad": options.pos_pad, "neg_pad": options.neg_pad}

    def call(pictures: Sequence[Picture]) -> Sequence[torch.Tensor]:
        first = pictures[0]
        scale = pick_scale(first.width, first.height, options.scale, options.size)
        if len(pictures) == 1:
            fix = options.color_fix
            images = pipeline(
                first, scale=scale, guidance=options.guidance, color_fix=fix, output_type="pt", **how
            ).images
            assert isinstance(images, torch.Tensor)
            return [images]
        pixels = torch.cat([pipeline.prepare(picture, scale) for picture in pictures])
        restored, _ = pipeline.restore_guided(pixels, options.guidance, **how)
        return list(correct_color(restored, pixels, options.color_fix).chunk(len(pictures)))

    return call

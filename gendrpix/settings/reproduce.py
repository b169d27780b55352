"""A result's settings as a command and as lines of Python."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from gendrpix.specs import UNGUIDED

if TYPE_CHECKING:
    from gendrpix.comparison.comparison import Record

Crop = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""
ONLY_RESIZED = "# The input is only resized; there is nothing to run."


def restorer_name(record: Record) -> str:
    """The restorer as the command line names it: Pix* is gendr-pix without guidance."""
    return "gendr-pix" if record.name == UNGUIDED else record.name


def as_command(record: Record, photo: str, weights: str, *, box: Crop | None = None, bits: int = 8) -> str:
    """The command that makes the same pixels on the same machine; `photo`: the picture's name or path there.

    box: the part of the photo that was restored. bits: of the PNG.
    """
    if record.device == "":
        return ONLY_RESIZED
    settings = record.settings
    name = f"./{photo}" if photo.startswith("-") else photo
    words = [name, "-o", "restored"]
    guided = record.name == "gendr-pix" and settings.guidance is not None
    if guided and settings.plain_cfg:
        words = ["compare", *words, "--restorers", record.name, "--plain-cfg"]
    else:
        words = ["restore", *words, "--restorer", restorer_name(record)]
    words += ["--crop", *map(str, box)] if box is not None else []
    words += ["--scale", exactly(settings.scale)]
    if guided:
        words += ["--guidance", repr(settings.guidance)]
        if not settings.plain_cfg:
            words += ["--pos-pad", *map(str, settings.pos_pad), "--neg-pad", *map(str, settings.neg_pad)]
    words += ["--dtype", record.dtype]
    words += ["--color-fix", settings.color_fix] if settings.color_fix != "none" else []
    words += ["--bits", str(bits)] if bits != 8 else []
    words += ["--weights", weights] if weights != "mini" else []
    return shlex.join(["python", "-m", "gendrpix", *words])


def as_python(record: Record, photo: str, weights: str, *, box: Crop | None = None, bits: int = 8) -> str:
    """The lines of Python that make the same pixels on the same machine (`as_command`)."""
    if record.device == "":
        return ONLY_RESIZED
    settings = record.settings
    device = record.device.split()[0]
    loading = [repr(restorer_name(record))]
    loading += [f"weights={weights!r}"] if weights != "mini" else []
    loading += [f"device={device!r}"] if device != "cpu" else []
    loading += [f"dtype=torch.{record.dtype}"] if record.dtype != "float32" else []
    source = repr(photo) if box is None else f"cut(open_picture({photo!r}), {tuple(box)})"
    calling = [source, f"scale={exactly(settings.scale)}"]
    if record.name == "gendr-pix" and settings.guidance is not None:
        calling.append(f"guidance={settings.guidance!r}")
        pads = [f"pos_pad={settings.pos_pad}", f"neg_pad={settings.neg_pad}"]
        calling += ["plain_cfg=True"] if settings.plain_cfg else pads
    calling += [f"color_fix={settings.color_fix!r}"] if settings.color_fix != "none" else []
    names = ["load_restorer"] + (["cut", "open_picture"] if box is not None else [])
    saving = ['image.save("restored.png")']
    if bits != 8:
        names.append("save_png")
        calling.append('output_type="pt"')
        saving = [f'save_png(image, "restored.png", bits={bits})  # without the alpha, if the photo has one']
    imports = [] if record.dtype == "float32" else ["import torch"]
    return "\n".join(
        [
            *imports,
            f"from gendrpix import {', '.join(sorted(names))}",
            "",
            f"restorer = load_restorer({', '.join(loading)})",
            f"image = restorer({', '.join(calling)}).images{'[0]' if bits == 8 else ''}",
            *saving,
        ]
    )


def exactly(scale: float) -> str:
    """The scale in the fewest digits that read back as the same number."""
    return f"{scale:g}" if float(f"{scale:g}") == scale else repr(scale)

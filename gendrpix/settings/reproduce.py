"""Settings as a command and as lines of Python that make the same pixels on the same machine."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from gendrpix.settings.restoration import RestoreSettings

LOADED = ("restorer", "dtype", "speedups")
"""Fields that decide how a restorer is loaded."""
USUAL = RestoreSettings(dtype="float32")


def to_command(settings: RestoreSettings, photo: str, weights: str = "mini") -> str:
    """The command that restores `photo`, the picture's name or path there. weights: a family, a folder or a hub id."""
    name = f"./{photo}" if photo.startswith("-") else photo
    return shlex.join(["python", "-m", "gendrpix", *to_words(settings, name, "restored", weights)])


def to_words(settings: RestoreSettings, photo: str, folder: str, weights: str = "mini") -> list[str]:
    """The words of `to_command` behind the program's name; the result goes into `folder`."""
    words = ["restore", photo, "-o", folder, "--restorer", settings.restorer]
    words += [] if settings.crop is None else ["--crop", *map(str, settings.crop)]
    size = settings.scale if settings.size_px is None else None
    words += ["--size", str(settings.size_px)] if size is None else ["--scale", exactly(size)]
    words += [] if settings.guidance is None else ["--guidance", exactly(settings.guidance)]
    for option, pad in (("--pos-pad", settings.pos_pad), ("--neg-pad", settings.neg_pad)):
        words += [] if pad is None else [option, *map(str, pad)]
    words += ["--plain-cfg"] if settings.plain_cfg else []
    words += [] if settings.batched else ["--no-batched"]
    words += ["--tile", str(settings.tile).lower()] if settings.tile != "auto" else []
    words += ["--stream"] if settings.stream else []
    words += ["--dtype", settings.dtype]
    words += ["--color-fix", settings.color_fix] if settings.color_fix != "none" else []
    words += ["--bits", str(settings.bits)] if settings.bits != 8 else []
    words += ["--speedups", *settings.speedups] if settings.speedups != USUAL.speedups else []
    return words + (["--weights", weights] if weights != "mini" else [])


def to_python(settings: RestoreSettings, photo: str, weights: str = "mini", device: str = "cpu") -> str:
    """The lines of Python that restore `photo`. settings: resolved, so that they name the dtype."""
    given = changed(settings)
    loading = [repr(settings.restorer)]
    loading += [f"weights={weights!r}"] if weights != "mini" else []
    loading += [f"device={device!r}"] if device != "cpu" else []
    loading += [f"dtype=torch.{settings.dtype}"] if "dtype" in given else []
    loading += [f"speedups={settings.speedups!r}"] if "speedups" in given else []
    calling = [f"{key}={word(value)}" for key, value in given.items() if key not in (*LOADED, "bits", "stream")]
    load = f"restorer = load_restorer({', '.join(loading)})"
    imports = ["import torch"] if "dtype" in given else []
    if settings.stream:
        calling += ["stream=True", *([f"bits={settings.bits}"] if settings.bits != 8 else [])]
        calling.insert(0, f"restorer={settings.restorer!r}")
        names = ["RestoreSettings", *([] if settings.crop is None else ["cut"]), "load_restorer", "open_picture"]
        imports += [
            f"from gendrpix import {', '.join(names)}",
            "from gendrpix.restore.streaming import restore_to_png",
        ]
        part = "" if settings.crop is None else f"picture = cut(picture, {tuple(settings.crop)})"
        making = [
            f"settings = RestoreSettings({', '.join(calling)})",
            f"picture = open_picture({photo!r})",
            *([part] if part else []),
            'restore_to_png(restorer, picture, "restored.png", settings)',
        ]
    elif settings.bits == 8:
        imports += ["from gendrpix import load_restorer"]
        making = [f"image = restorer({', '.join([repr(photo), *calling])}).images[0]", 'image.save("restored.png")']
    else:
        imports += ["from gendrpix import load_restorer, save_png"]
        calling.append('output_type="pt"')
        making = [
            f"image = restorer({', '.join([repr(photo), *calling])}).images",
            f'save_png(image, "restored.png", bits={settings.bits})  # without the alpha, if the photo has one',
        ]
    return "\n".join([*imports, "", load, *making])


def changed(settings: RestoreSettings) -> dict[str, Any]:
    """The fields that are not as usual, and the scale or the size."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    usual = {field.name: getattr(USUAL, field.name) for field in fields(USUAL)}
    size = "scale" if settings.size_px is None else "size_px"
    return {key: value for key, value in values.items() if key == size or (key != "scale" and value != usual[key])}


def word(value: Any) -> str:
    """A value in Python: numbers in the fewest digits, a box as a plain tuple."""
    if isinstance(value, float):
        return exactly(value)
    return repr(tuple(value)) if isinstance(value, tuple) else repr(value)


def exactly(number: float) -> str:
    """The number in the fewest digits that read back as the same number."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)

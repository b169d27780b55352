"""The command `gendrpix export`: a restorer as files for another runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gendrpix import __version__
from gendrpix.engines import ncnn_file, onnx_file, openvino_file
from gendrpix.engines.enlarge import SCALE
from gendrpix.engines.graph import Restorer
from gendrpix.errors import PictureError
from gendrpix.files import make_folder, written_beside
from gendrpix.restore.pipelines import load_restorer
from gendrpix.settings.recipe import weights_name, write_recipe
from gendrpix.specs import NEG_PAD, POS_PAD
from gendrpix.weights.load import find_restorer_folder, own_offsets
from gendrpix.weights.verify import digest_weights

if TYPE_CHECKING:
    from gendrpix.settings.options import Export

CARD_FILE = "README.md"
UNKNOWN_LICENCE = "not stated"


def check_export(options: Export) -> None:
    """Raise ValueError for options that make no sense together, before anything is loaded."""
    if options.int8 and options.format != "openvino":
        raise ValueError(f"--int8 is for --format openvino only, not for {options.format}; leave it out.")
    if options.int8 and options.calibrate is None:
        raise ValueError("--int8 needs photos to calibrate with; name a folder of them with --calibrate.")
    if options.calibrate is not None and not options.int8:
        raise ValueError("--calibrate is for --int8 only; add --int8, or leave it out.")
    _ = options.settings  # refuses numbers out of range


def export(options: Export) -> list[Path]:
    """Write the exported files into a folder, each whole or not at all; their paths, the one to load first.

    Raises ValueError for options that make no sense, missing packages, files that are there already.
    """
    check_export(options)
    paths = plan_files(options)
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise PictureError(f"{taken[0]} exists already; choose another folder or allow overwriting (--overwrite).")
    metadata = describe_export(options, find_restorer_folder(options.restorer, options.weights))
    contents = build_files(options, metadata)
    make_folder(options.output)
    for path, content in reversed(list(zip(paths, contents, strict=True))):  # the one to load appears last
        with written_beside(path, overwrite=options.overwrite) as file:
            file.write(content)
    return paths


def plan_files(options: Export) -> list[Path]:
    """The files of an export, the one to load first: weights apart where the format has them so.

    ONNX and OpenVINO's files hold their description; ncnn's have it beside them.
    """
    stem = f"{options.restorer}-{SCALE}x"
    names = {
        "onnx": (f"{stem}.onnx",),
        "openvino": tuple(f"{stem}-openvino{'-int8' if options.int8 else ''}{suffix}" for suffix in (".xml", ".bin")),
        "ncnn": (f"{stem}.param", f"{stem}.bin", f"{stem}.json"),
    }
    return [options.output / name for name in names[options.format]]


def build_files(options: Export, metadata: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The files' contents, in `plan_files`'s order."""
    calibration = [] if options.calibrate is None else openvino_file.read_calibration(options.calibrate)
    properties = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    pipeline = load_restorer(options.restorer, options.weights, dtype=torch.float32, speedups=())
    settings = pipeline.resolve(options.settings)
    pads = {"pos_pad": settings.pos_pad or POS_PAD, "neg_pad": settings.neg_pad or NEG_PAD}
    restorer = Restorer(pipeline, guidance=settings.guidance, **pads)
    if options.format == "onnx":
        return (onnx_file.build_onnx(restorer, properties),)
    if options.format == "openvino":
        return openvino_file.build_openvino(restorer, properties, calibration)
    network = ncnn_file.build_network(restorer)
    description = json.dumps(metadata, indent=2) + "\n"
    return network.param_text().encode(), network.weight_bytes(), description.encode()


def describe_export(options: Export, folder: Path) -> dict[str, Any]:
    """What an exported file is made of, as JSON values; no paths of the machine."""
    settings = options.settings.resolved(**own_offsets(folder), dtype="float32")
    recipe = write_recipe(settings, weights=weights_name(options.weights))
    return {
        "recipe": recipe | ({"dtype": "int8"} if options.int8 else {}),
        "format": options.format,
        "input": f"(1, 3, h, w) RGB in [0, 1], float32; the result has {SCALE} times as many pixels a side",
        "licence": read_licence(folder),
        "weights_sha256": digest_weights(folder),
        "version": __version__,
    }


def read_licence(folder: Path) -> str:
    """The licence that the weights' card names (`license:` in its first lines), or "not stated"."""
    card = folder / CARD_FILE
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines[:20] if line.startswith("license:")]
    return named[0] if named else UNKNOWN_LICENCE

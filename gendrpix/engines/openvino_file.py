"""GenDR-Pix in OpenVINO's format, in float32 or quantised to 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendrpix.engines.graph import Restorer
from gendrpix.engines.onnx_file import build_onnx
from gendrpix.engines.packages import load_package
from gendrpix.image.read import find_pictures, open_picture

CALIBRATION_PX = 128
"""Side of the square that is cut from the middle of a calibration photo."""
MOST_PHOTOS = 32
"""Calibration photos that are used: more change nothing and take time."""
QUANTISED = "/unet/"
"""Only the UNet's layers are quantised. The picture itself passes beside them, and stays float32: calibrated on dark
photos, 8 bits would hold no white."""


def build_openvino(
    restorer: Restorer, metadata: Mapping[str, str], calibration: Sequence[Tensor] = ()
) -> tuple[bytes, bytes]:
    """The restorer as (XML, weights) of OpenVINO; quantised to 8 bits where calibration pictures are given.

    calibration: (1, 3, h, w) in [0, 1] each. Raises ValueError where a package is missing.
    """
    openvino = load_package("openvino", "The format openvino")
    model = openvino.Core().read_model(build_onnx(restorer, {}))
    if calibration:
        model = _quantise(model, calibration)
    for key, value in metadata.items():
        model.set_rt_info(value, ["gendrpix", key])
    with tempfile.TemporaryDirectory(prefix="gendrpix-openvino-") as folder:
        xml = Path(folder) / "model.xml"
        openvino.save_model(model, xml, compress_to_fp16=False)
        return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()


def _quantise(model: Any, calibration: Sequence[Tensor]) -> Any:
    """The model with 8-bit products within the UNet, as NNCF calibrates them."""
    nncf = load_package("nncf", "--int8")
    samples = [{0: picture.numpy()} for picture in (*calibration, *_extremes(calibration[0]))]
    return nncf.quantize(
        model,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(patterns=[f"^(?!.*{QUANTISED}).*$"], validate=False),
    )


def _extremes(like: Tensor) -> Iterator[Tensor]:
    """A black and a white picture, so that no photo's darkness decides what the first layer can read."""
    yield torch.zeros_like(like)
    yield torch.ones_like(like)


def read_calibration(folder: Path) -> list[Tensor]:
    """The middles of a folder's photos, (1, 3, h, w) in [0, 1] each. Raises ValueError for a folder without any."""
    pictures = []
    for path in find_pictures([folder])[:MOST_PHOTOS]:
        color = open_picture(path).color
        height, width = (min(side, CALIBRATION_PX) for side in color.shape[-2:])
        top, left = ((side - size) // 2 for side, size in zip(color.shape[-2:], (height, width), strict=True))
        pictures.append((color[..., top : top + height, left : left + width] + 1) / 2)
    return pictures

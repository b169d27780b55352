"""GenDR-Pix as an ONNX file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import torch

from gendrpix.engines.graph import Restorer
from gendrpix.engines.packages import load_package

OPSET = 20
"""Later ones have a GroupNormalization that gives NaN on flat pictures in onnxruntime; this one spells it out."""
INPUT, OUTPUT = "input", "output"
TRACED_PX = (24, 20)
"""Sides of the picture that the graph is traced with; the file takes any."""


def build_onnx(restorer: Restorer, metadata: Mapping[str, str]) -> bytes:
    """The restorer as an ONNX file's content, for any height and width; metadata: its properties.

    Raises ValueError where the package onnx is missing.
    """
    onnx = load_package("onnx", "The format onnx")
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is meant: torch.export refuses the remainders of sizes
        torch.onnx.export(
            restorer,
            (torch.zeros(1, 3, *TRACED_PX),),
            content,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {2: "height", 3: "width"}, OUTPUT: {2: "4 height", 3: "4 width"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(content.getvalue())
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString()
    return written

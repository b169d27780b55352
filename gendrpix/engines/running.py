"""Exported files as functions of a picture: onnxruntime, OpenVINO and ncnn behind one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendrpix.engines.packages import load_package

Floats = NDArray[np.float32]
Runner = Callable[[Floats], Floats]
"""(1, 3, h, w) float32 in [0, 1] => (1, 3, 4 h, 4 w) float32 in [0, 1]."""


def open_exported(path: Path, threads: int = 1) -> Runner:
    """The exported file as a function, in the runtime that its suffix names: .onnx, .xml or .param.

    Raises ValueError for a file that is missing, of another kind, or cannot be read.
    """
    openers = {".onnx": _open_onnx, ".xml": _open_openvino, ".param": _open_ncnn}
    if path.suffix not in openers:
        raise ValueError(f"{path.name} is no exported restorer; expected a file ending in {', '.join(openers)}.")
    for file in (path, *([path.with_suffix(".bin")] if path.suffix != ".onnx" else [])):
        if not file.is_file():
            raise ValueError(f"{file} is missing; export it again with `gendrpix export`.")
    run = openers[path.suffix](path, threads)

    def checked(picture: Floats) -> Floats:
        if picture.ndim != 4 or picture.shape[:2] != (1, 3) or 0 in picture.shape:
            raise ValueError(f"The picture has the shape {picture.shape}; expected (1, 3, height, width).")
        return run(np.ascontiguousarray(picture, dtype=np.float32))

    return checked


def _open_onnx(path: Path, threads: int) -> Runner:
    runtime = load_package("onnxruntime", path.name)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings are about nodes that it computes once, ahead
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise unreadable(path) from error
    name = session.get_inputs()[0].name

    def run(picture: Floats) -> Floats:
        restored: Floats = session.run(None, {name: picture})[0]
        return restored

    return run


def _open_openvino(path: Path, threads: int) -> Runner:
    openvino = load_package("openvino", path.name)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise unreadable(path) from error

    def run(picture: Floats) -> Floats:
        return np.array(compiled({0: picture})[0])  # a copy: the next run writes into the same memory

    return run


def _open_ncnn(path: Path, threads: int) -> Runner:
    ncnn = load_package("ncnn", path.name)
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise unreadable(path)
    first, last = net.input_names()[0], net.output_names()[0]

    def run(picture: Floats) -> Floats:
        extractor = net.create_extractor()
        # ncnn reads the memory as it lies, whatever numpy's strides and dtype say: `checked` has put it in order.
        # The clone lies as ncnn's layers expect it; some crash on numpy's own memory.
        status = extractor.input(first, ncnn.Mat(picture[0]).clone())
        code, found = extractor.extract(last) if status == 0 else (status, None)
        if code:
            raise ValueError(f"ncnn could not run on {picture.shape[-1]} x {picture.shape[-2]} pixels (code {code}).")
        return np.array(found)[None]

    return run


def unreadable(path: Path) -> ValueError:
    """What is said of a file that a runtime refuses."""
    return ValueError(f"{path.name} cannot be read; export it again with `gendrpix export`.")

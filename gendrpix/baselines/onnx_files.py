"""Networks in ONNX files (chaiNNer's and others'), run by onnxruntime.

A file is looked at before onnxruntime sees it: no data outside its folder, no code by name, no loops, no sizes out of
proportion. The packages onnx and onnxruntime (Apache-2.0 and MIT) are optional: `requirements-peers.txt`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendrpix.baselines.restorer import TILE_PX, check_scale
from gendrpix.image.resize import reflect_pad

SUFFIXES = (".onnx",)
MAX_FILE_BYTES = 2_000_000_000
"""protobuf's own limit."""
MAX_NODES = 100_000
MAX_VALUES = 2**31
"""Most numbers that a tensor of known shape may have."""
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Sets of operations that onnxruntime has built in."""
LEAST_PX, PROBE_PX = 8, 64
DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class OnnxNetwork:
    """An ONNX network with one input (1, 3, H, W) in [0, 1] and one output like it, sizes free or fixed.

    One of fixed size gets tiles of that size, mirrored at the edges where the picture is smaller.
    """

    architecture = "ONNX"

    def __init__(self, file: Path, device: torch.device) -> None:
        """Load it. Raises ValueError for files that do not fit, and where the packages are missing."""
        try:
            onnx, runtime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
        except ImportError as error:
            raise ValueError(f"{file.name} needs onnx and onnxruntime; pip install onnx onnxruntime.") from error
        self.name, model = file.name, read_model(onnx, file)
        told = {entry.key.lower(): entry.value for entry in model.metadata_props}
        self.licence = (told.get("license") or told.get("licence") or "")[:200]
        wanted = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
        options: Any = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
        try:
            self._session: Any = runtime.InferenceSession(
                str(file), options, providers=[wanted] if wanted in runtime.get_available_providers() else None
            )
        except Exception as error:  # onnxruntime's own kinds have no common class
            raise ValueError(f"onnxruntime cannot load {file.name} ({type(error).__name__}); get it again.") from error
        self.device = torch.device("cpu")  # where pixels are taken from and given back
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in DTYPES or len(inputs[0].shape) != 4:
            raise ValueError(f"{file.name} does not take one picture and give one; expected (1, 3, height, width).")
        self.dtype, self._input = DTYPES[inputs[0].type], inputs[0].name
        if inputs[0].shape[1] not in (3, None) and not isinstance(inputs[0].shape[1], str):
            raise ValueError(f"{file.name} takes {inputs[0].shape[1]} channels; expected a network of RGB pictures.")
        self._sides: list[int | None] = [side if isinstance(side, int) else None for side in inputs[0].shape[2:]]
        fixed = [side for side in self._sides if side is not None]
        if fixed and not LEAST_PX <= min(fixed) <= max(fixed) <= 4096:
            raise ValueError(f"{file.name} takes pictures of {inputs[0].shape[2:]} pixels alone; expected 8 to 4096.")
        self.tile_px: int | None = (min(fixed) if fixed else TILE_PX) // LEAST_PX * LEAST_PX
        self.resident_bytes = sum(side.stat().st_size for side in (file, *outside_files(onnx, model, file)))
        probe = (self._sides[0] or PROBE_PX, self._sides[1] or PROBE_PX)
        self.scale = check_scale(file.name, probe, self._run(torch.zeros(1, 3, *probe)).shape)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `gendrpix.baselines.restorer.Network`."""
        height, width = pixels.shape[-2:]
        below, right = ((side or has) - has for side, has in zip(self._sides, (height, width), strict=True))
        padded = reflect_pad((pixels.float().cpu() + 1) / 2, 0, right, 0, below)
        made = torch.from_numpy(self._run(padded).astype(np.float32))[..., : self.scale * height, : self.scale * width]
        return (made * 2 - 1).clamp(-1, 1)

    def _run(self, planes: Tensor) -> Any:
        """(1, 3, h, w) in [0, 1] => the network's array. Raises ValueError where it cannot run on that size."""
        try:
            return self._session.run(None, {self._input: planes.to(self.dtype).numpy()})[0]
        except Exception as error:  # onnxruntime's own kinds have no common class
            size = f"{planes.shape[-1]} x {planes.shape[-2]}"
            raise ValueError(f"{self.name} cannot run on {size} pixels ({type(error).__name__}).") from error


def open_network(file: Path, device: torch.device, dtype: torch.dtype) -> OnnxNetwork:
    """The network of an .onnx file, in the dtype that the file has. Raises ValueError in a sentence."""
    return OnnxNetwork(file, device)


def read_model(onnx: Any, file: Path) -> Any:
    """The file's description, checked; data in other files is not read. Raises ValueError."""
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file} is missing or larger than {MAX_FILE_BYTES:,} bytes; pass an .onnx file.")
    try:
        model = onnx.load(str(file), load_external_data=False)
        nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
        if not nodes or len(nodes) > MAX_NODES:
            raise ValueError(f"{file.name} has {len(nodes)} operations; expected 1 to {MAX_NODES:,}.")
        for node in nodes:
            branches = any(one.HasField("g") or one.graphs for one in node.attribute)
            known = node.domain in DOMAINS or any(node.domain == function.domain for function in model.functions)
            if branches or not known:
                what = f"the operation {node.op_type[:40]!r} of {node.domain[:40] or 'ONNX'!r}"
                raise ValueError(f"{file.name} has {what}, a loop or code from elsewhere; it is not loaded.")
        outside_files(onnx, model, file)
        check_shapes(file, model)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        check_shapes(file, inferred)
    except ValueError:
        raise
    except Exception as error:  # protobuf's and onnx's own kinds
        raise ValueError(f"{file.name} is no ONNX file or damaged ({type(error).__name__}); get it again.") from error
    return model


def tensors_of(model: Any) -> Iterator[Any]:
    """Every stored tensor: weights, sparse ones and constants."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        for one in node.attribute:
            yield from ([one.t] if one.HasField("t") else [])
            yield from one.tensors
            for sparse in ([one.sparse_tensor] if one.HasField("sparse_tensor") else []) + list(one.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def outside_files(onnx: Any, model: Any, file: Path) -> list[Path]:
    """The files beside `file` that hold its weights. Raises ValueError for one outside its folder, or missing."""
    folder = file.resolve().parent
    found: dict[Path, None] = {}
    for tensor in tensors_of(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (folder / place).resolve()
        if not place or Path(place).is_absolute() or not target.is_relative_to(folder) or not target.is_file():
            raise ValueError(
                f"{file.name} keeps weights in {place[:60]!r}, which is no file in its own folder; it is not loaded."
            )
        found[target] = None
    return list(found)


def check_shapes(file: Path, model: Any) -> None:
    """Raise ValueError where a tensor of known shape has more than MAX_VALUES numbers."""
    shapes = [list(tensor.dims) for tensor in tensors_of(model)]
    shapes += [
        [side.dim_value for side in value.type.tensor_type.shape.dim if side.HasField("dim_value")]
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    ]
    for shape in shapes:
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_VALUES:
            raise ValueError(f"{file.name} has a tensor of {str(shape)[:80]} numbers; it is not loaded.")

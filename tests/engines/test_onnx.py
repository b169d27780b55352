"""ONNX files: pixels as torch's in onnxruntime, and what runtimes get wrong in silence kept out."""

from pathlib import Path

import numpy as np
import pytest

from gendrpix.engines.onnx_file import OPSET, build_onnx
from gendrpix.engines.running import Runner, open_exported
from tests.helpers.engines import (
    assert_as_torch,
    pictures,
    restored_by_torch,
    seeded_pipeline,
    seeded_restorer,
    write_all,
)

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")


@pytest.fixture(scope="module")
def content() -> bytes:
    return build_onnx(seeded_restorer(seeded_pipeline()), {"licence": "cc0-1.0"})


@pytest.fixture(scope="module")
def run(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("onnx")
    write_all(folder, {"tiny.onnx": content})
    return open_exported(folder / "tiny.onnx")


def test_pixels_are_torchs_at_every_size(run: Runner) -> None:
    """Flat pictures among them, which are NaN under opset 21's GroupNormalization in onnxruntime."""
    assert_as_torch(run, seeded_pipeline())


def test_guided_pixels_are_torchs(tmp_path: Path) -> None:
    pipeline = seeded_pipeline()
    write_all(tmp_path, {"guided.onnx": build_onnx(seeded_restorer(pipeline, 1.5), {})})
    assert_as_torch(open_exported(tmp_path / "guided.onnx"), pipeline, 1.5)


def test_a_step_of_one_level_in_a_sky_is_kept(run: Runner) -> None:
    """torch's own GroupNorm with the channels last in memory loses it on a CPU."""
    pipeline, sky = seeded_pipeline(), pictures()["sky"]
    flat = np.full_like(sky, 200 / 255)
    step = run(sky) - run(flat)
    expected = restored_by_torch(pipeline, sky) - restored_by_torch(pipeline, flat)
    assert np.abs(expected[..., 52:, :]).mean() > 0.5 / 255
    assert np.abs(step - expected).max() < 0.02 / 255


def test_norms_are_spelled_out_and_no_resize_is_cubic(content: bytes) -> None:
    """An antialiased resize by a factor would be exported as one by a size, which is right for one picture only."""
    model = onnx.load_from_string(content)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", OPSET)}
    kinds = {node.op_type for node in model.graph.node}
    assert "GroupNormalization" not in kinds and "InstanceNormalization" in kinds
    modes = [attribute.s for node in model.graph.node if node.op_type == "Resize" for attribute in node.attribute]
    assert b"nearest" in modes and b"cubic" not in modes


def test_sizes_are_free_and_properties_are_kept(content: bytes) -> None:
    model = onnx.load_from_string(content)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in dims] == [1, 3, "height", "width"]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"licence": "cc0-1.0"}


def test_a_result_is_the_callers_own(run: Runner) -> None:
    first = run(pictures()["16 x 16"])
    kept = first.copy()
    run(1 - pictures()["16 x 16"])
    assert np.array_equal(first, kept)


def test_a_broken_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    write_all(tmp_path, {"broken.onnx": b"no network"})
    with pytest.raises(ValueError, match=r"broken\.onnx cannot be read; export it again"):
        open_exported(tmp_path / "broken.onnx")

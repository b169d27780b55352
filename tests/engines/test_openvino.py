"""OpenVINO's files, in float32 and in 8 bits: pixels as torch's, whites that stay white."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gendrpix.engines.openvino_file import CALIBRATION_PX, build_openvino, read_calibration
from gendrpix.engines.running import Runner, open_exported
from tests.helpers.engines import (
    assert_as_torch,
    pictures,
    restored_by_torch,
    seeded_pipeline,
    seeded_restorer,
    write_all,
)
from tests.helpers.pictures import photo

openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
pytest.importorskip("onnx", reason="the package onnx is not installed")


def opened(folder: Path, files: tuple[bytes, bytes]) -> Runner:
    write_all(folder, {"tiny.xml": files[0], "tiny.bin": files[1]})
    return open_exported(folder / "tiny.xml")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    files = build_openvino(seeded_restorer(seeded_pipeline()), {"licence": "cc0-1.0"})
    return opened(tmp_path_factory.mktemp("openvino"), files)


def test_pixels_are_torchs_at_every_size(run: Runner) -> None:
    """Odd sizes among them, whose remainders a graph of torch.export would not have brought."""
    assert_as_torch(run, seeded_pipeline())


def test_results_lie_between_0_and_1(run: Runner) -> None:
    """OpenVINO turns floats into integers by truncation and wraps negative ones: a clamp must come first."""
    loud = np.random.default_rng(1).integers(0, 2, (1, 3, 20, 20)).astype(np.float32)
    restored = run(loud)
    assert restored.min() == 0 and restored.max() == 1
    levels = np.rint(restored * 65535).astype(np.uint16)
    expected = np.rint(restored_by_torch(seeded_pipeline(), loud) * 65535)
    assert np.abs(levels - expected).max() <= 8


def test_a_result_is_not_overwritten_by_the_next(run: Runner) -> None:
    first = run(pictures()["16 x 16"])
    kept = first.copy()
    run(1 - pictures()["16 x 16"])
    assert np.array_equal(first, kept)


def test_properties_are_kept(tmp_path: Path) -> None:
    files = build_openvino(seeded_restorer(seeded_pipeline()), {"licence": "cc0-1.0"})
    write_all(tmp_path, {"tiny.xml": files[0], "tiny.bin": files[1]})
    model = openvino.Core().read_model(tmp_path / "tiny.xml")
    assert model.get_rt_info(["gendrpix", "licence"]).astype(str) == "cc0-1.0"


class TestInt8:
    """Calibrated on photos that are dark: nothing in them is brighter than 0.6."""

    @pytest.fixture(scope="class")
    def int8(self, tmp_path_factory: pytest.TempPathFactory) -> Runner:
        pytest.importorskip("nncf", reason="the package nncf is not installed")
        dark = [torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(n)) * 0.6 for n in range(3)]
        files = build_openvino(seeded_restorer(seeded_pipeline()), {}, dark)
        assert b"FakeQuantize" in files[0] or b'element_type="i8"' in files[0]
        return opened(tmp_path_factory.mktemp("int8"), files)

    def test_white_stays_white(self, int8: Runner) -> None:
        """The picture passes beside the quantised layers; through them white would come out as 0.6, 102 levels off."""
        white = pictures()["white"]
        expected = restored_by_torch(seeded_pipeline(), white)
        assert np.abs(int8(white) - expected).mean() * 255 < 12


def test_calibration_reads_the_middles_of_a_folders_photos(tmp_path: Path) -> None:
    photo(300, 40).save(tmp_path / "a.png")
    found = read_calibration(tmp_path)
    assert [one.shape for one in found] == [(1, 3, 40, CALIBRATION_PX)]
    assert found[0].min() >= 0 and found[0].max() <= 1
    left = (300 - CALIBRATION_PX) // 2
    expected = np.asarray(photo(300, 40))[:, left : left + CALIBRATION_PX].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[0][0].numpy(), expected, atol=1e-6)

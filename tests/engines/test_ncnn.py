"""ncnn's files: pixels as torch's at every size, names that other programs look for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gendrpix.engines.ncnn_file import build_network
from gendrpix.engines.ncnn_layers import NcnnNetwork
from gendrpix.engines.running import Runner, open_exported
from gendrpix.models import attention
from tests.helpers.engines import assert_as_torch, pictures, seeded_pipeline, seeded_restorer, write_all
from tests.helpers.models import TINY

ncnn = pytest.importorskip("ncnn", reason="the package ncnn is not installed")


def opened(folder: Path, network: NcnnNetwork) -> Runner:
    write_all(folder, {"tiny.param": network.param_text().encode(), "tiny.bin": network.weight_bytes()})
    return open_exported(folder / "tiny.param")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return opened(tmp_path_factory.mktemp("ncnn"), build_network(seeded_restorer(seeded_pipeline())))


def test_pixels_are_torchs_at_every_size(run: Runner) -> None:
    """A converter's reshapes would be right for one size, and mix channels at the others."""
    assert_as_torch(run, seeded_pipeline())


def test_guided_pixels_are_torchs(tmp_path: Path) -> None:
    pipeline = seeded_pipeline()
    network = build_network(seeded_restorer(pipeline, 1.5))
    assert_as_torch(opened(tmp_path, network), pipeline, 1.5, least_px=3)


def test_windows_without_far_keys(tmp_path: Path) -> None:
    pipeline = seeded_pipeline(far=False)
    assert_as_torch(opened(tmp_path, build_network(seeded_restorer(pipeline))), pipeline)


def test_full_attention(tmp_path: Path) -> None:
    pipeline = seeded_pipeline()
    attention.set_attention(pipeline.unet, "full", TINY.window_tokens)
    assert_as_torch(opened(tmp_path, build_network(seeded_restorer(pipeline))), pipeline)


def test_order_and_kind_of_numbers_in_memory_change_nothing(run: Runner) -> None:
    """ncnn takes memory as it lies, whatever numpy says of strides and dtype."""
    picture = pictures()["26 x 38"]
    expected = run(picture)
    last = np.ascontiguousarray(picture.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    backwards = np.ascontiguousarray(picture[..., ::-1])[..., ::-1]
    for same in (last, backwards, picture.astype(np.float64)):
        np.testing.assert_allclose(run(same), expected, atol=1e-6)


def test_blobs_have_the_names_that_programs_look_for() -> None:
    lines = build_network(seeded_restorer(seeded_pipeline())).param_text().splitlines()
    assert lines[0] == "7767517"
    assert lines[2].split()[:1] + lines[2].split()[4:] == ["Input", "data"]
    assert lines[-1].split()[5] == "output"
    read, made = set(), set()
    for _, _, inputs, outputs, *names in map(str.split, lines[2:]):
        read.update(names[: int(inputs)])
        made.update(names[int(inputs) : int(inputs) + int(outputs)])
    assert made - read == {"output"}, "a blob that nothing reads is a second output to ncnn"


def test_other_forms_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be exported to ncnn"):
        build_network(seeded_restorer(seeded_pipeline("direct")))


@pytest.mark.parametrize("exact", [True, False])
def test_weights_take_half_the_space_where_that_is_exact(exact: bool) -> None:
    conv = nn.Conv2d(3, 5, 1)
    conv.weight.data = torch.rand(5, 3, 1, 1).half().float() + (0 if exact else 1e-6)
    net = NcnnNetwork()
    net.conv(net.add("Input", [], {}, to="data"), conv)
    assert len(net.weight_bytes()) == 4 + (32 if exact else 60) + 20  # tag, 15 weights to a multiple of 4, 5 biases


def test_a_broken_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    write_all(tmp_path, {"broken.param": b"7767517\n", "broken.bin": b""})
    with pytest.raises(ValueError, match=r"broken\.param cannot be read; export it again"):
        open_exported(tmp_path / "broken.param")

"""The command `gendrpix export`: its files, what they say of themselves, what is refused."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gendrpix import __version__
from gendrpix.__main__ import main
from gendrpix.engines import packages
from gendrpix.engines.running import open_exported
from gendrpix.restore.pipelines import load_restorer
from gendrpix.specs import POS_PAD
from gendrpix.weights.verify import digest_weights
from tests.helpers.engines import restored_by_torch
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import assert_sentence, photo

GUIDE = Path(__file__).parents[2] / "docs" / "performance" / "export.md"
NEEDED = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "ncnn": ("ncnn",)}
FILES = {
    "onnx": ["gendr-pix-4x.onnx"],
    "openvino": ["gendr-pix-4x-openvino.xml", "gendr-pix-4x-openvino.bin"],
    "ncnn": ["gendr-pix-4x.param", "gendr-pix-4x.bin", "gendr-pix-4x.json"],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_family(tmp_path_factory.mktemp("tiny"), ("gendr-pix",))
    (folder / "gendr-pix" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    return folder


def run(*arguments: object) -> int:
    return main(["export", "gendr-pix", *map(str, arguments)])


@pytest.mark.parametrize("format_name", FILES)
def test_one_command_writes_a_file_that_runs(weights: Path, tmp_path: Path, capsys, format_name: str) -> None:
    for package in NEEDED[format_name]:
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    out = tmp_path / "new" / "out"
    assert run("-o", out, "--format", format_name, "--weights", weights) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES[format_name])
    said = [Path(line.split()[0]).name for line in capsys.readouterr().out.splitlines()]
    assert said == FILES[format_name]
    picture = np.random.default_rng(0).random((1, 3, 11, 9), dtype=np.float32)
    expected = restored_by_torch(load_restorer("gendr-pix", weights), picture)
    np.testing.assert_allclose(open_exported(out / said[0])(picture), expected, atol=1e-4)
    assert run("-o", out, "--format", format_name, "--weights", weights) == 2
    assert "exists already; choose another folder" in capsys.readouterr().err


def test_a_file_says_what_it_was_made_of(weights: Path, tmp_path: Path) -> None:
    assert run("-o", tmp_path, "--format", "ncnn", "--weights", weights, "--guidance", 1.5, "--neg-pad", 2, 3) == 0
    said = json.loads((tmp_path / "gendr-pix-4x.json").read_text())
    assert said["recipe"] == {
        "restorer": "gendr-pix",
        "weights": weights.name,
        "scale": 4.0,
        "guidance": 1.5,
        "dtype": "float32",
        "version": __version__,
        "pos_pad": list(POS_PAD),
        "neg_pad": [2, 3],
    }
    assert said["licence"] == "cc0-1.0" and said["version"] == __version__ and said["format"] == "ncnn"
    assert said["weights_sha256"] == digest_weights(weights / "gendr-pix")
    assert str(tmp_path) not in json.dumps(said)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--format", "onnx", "--int8", "--calibrate", "."), "--int8 is for --format openvino only"),
        (("--format", "openvino", "--int8"), "name a folder of them with --calibrate"),
        (("--format", "ncnn", "--calibrate", "."), "--calibrate is for --int8 only"),
        (("--format", "ncnn", "--pos-pad", 8, 0), "0 to 7"),
        (("--format", "ncnn", "--weights", "nowhere/at-all"), "No weights at"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, capsys, arguments: tuple[object, ...], message: str) -> None:
    assert run("-o", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_the_extra(weights: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    real = importlib.import_module

    def without_onnx(name: str, package: str | None = None) -> object:
        if name == "onnx":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(packages.importlib, "import_module", without_onnx)
    assert run("-o", tmp_path / "out", "--format", "onnx", "--weights", weights) == 2
    message = capsys.readouterr().err.removeprefix("gendrpix: ").strip()
    assert_sentence(message)
    assert "needs the package onnx; install it with" in message and "requirements-engines.txt" in message
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_where_a_file_cannot_be_written(weights: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("a file in the folder's place")
    assert run("-o", tmp_path / "out", "--format", "ncnn", "--weights", weights) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_guides_ten_lines_run_as_printed(weights: Path, tmp_path: Path, monkeypatch) -> None:
    for package in NEEDED["onnx"]:
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    (printed,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(printed.strip().splitlines()) == 10 and "gendrpix" not in printed.replace("gendr-pix", "")
    monkeypatch.chdir(tmp_path)
    assert run("-o", "exported", "--format", "onnx", "--weights", weights) == 0
    photo(21, 13).save("photo.jpg")
    exec(compile(printed, str(GUIDE), "exec"), {})
    picture = np.asarray(PIL.Image.open("photo.jpg")).transpose(2, 0, 1)[None] / np.float32(255)
    expected = np.rint(restored_by_torch(load_restorer("gendr-pix", weights), picture)[0] * 255)
    found = np.asarray(PIL.Image.open("restored.png")).transpose(2, 0, 1)
    assert np.abs(found - expected).max() <= 1

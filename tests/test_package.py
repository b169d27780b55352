"""What `pip install .` brings: a wheel built from the tracked files, its contents and its command."""

import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"gendrpix": "gendrpix", "training": "training", "assets": "gendrpix/assets"}
"""Folder of the project => where it lies in the wheel."""


def tracked() -> list[Path]:
    """The project's files that git knows, relative."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built with one byte in place of each of the large weights: only their names matter here."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked():
        target = folder / "project" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            target.write_bytes(b"x")
        else:
            shutil.copyfile(ROOT / path, target)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=folder / "project", check=True, capture_output=True, text=True
    )
    [built] = folder.glob("gendrpix-*-py3-none-any.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        (Path(PACKAGES[path.parts[0]]) / path.relative_to(path.parts[0])).as_posix()
        for path in tracked()
        if path.parts[0] in PACKAGES
    }
    assert names == expected
    assert "gendrpix/assets/checkpoints/mini/ATTRIBUTION.csv" in names  # the photos' licences go with the weights
    assert "gendrpix/assets/checkpoints/mini/gendr-pix/unet/diffusion_pytorch_model.safetensors" in names


def test_the_wheel_gives_the_command(wheel: zipfile.ZipFile) -> None:
    [entries] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(entries).decode().split() == ["[console_scripts]", "gendrpix", "=", "gendrpix.__main__:main"]
    assert callable(import_module("gendrpix.__main__").main)


def test_the_wheel_names_its_requirements_and_licence(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("METADATA")]
    metadata = message_from_string(wheel.read(name).decode())
    needed = metadata.get_all("Requires-Dist") or []
    listed = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sum("extra ==" not in one for one in needed) == sum(bool(line) for line in listed)
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == "<3.14,>=3.11"
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())

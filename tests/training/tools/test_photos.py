"""Photos out of packages: what is written, attributed, refused and missed. No network is used."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.__main__ import main
from training.tools import photos as module
from training.tools.photos import ATTRIBUTION, COLUMNS, TABLE, PhotosConfig, photos, read_table


def jpeg(path: Path, size: tuple[int, int]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of three photos of one wheel, one of them another file, and one of a package that is not there."""
    large = jpeg(tmp_path / "wheel" / "large.jpg", (2000, 1000))
    small = jpeg(tmp_path / "wheel" / "deep" / "small.png", (90, 70))
    with zipfile.ZipFile(tmp_path / "some_photos-1.2-py3-none-any.whl", "w") as archive:
        for path in sorted((tmp_path / "wheel").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "wheel"))
    lines = [
        ("pypi", "some-photos", "large.jpg", "Ann", "CC0 (LICENSE)", hashlib.sha256(large).hexdigest()),
        ("pypi", "some-photos", "deep/small.png", "Bob", "CC BY 4.0 (README)", hashlib.sha256(small).hexdigest()),
        ("pypi", "some-photos", "large.jpg", "Eve", "CC0", "0" * 64),
        ("pypi", "no-photos", "gone.jpg", "Eve", "CC0", "1" * 64),
    ]
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("source", "package", "path", "author", "licence", "sha256"), *lines])

    def download(words: list[str], folder: Path) -> None:
        if words[-1] != "some-photos":
            raise subprocess.CalledProcessError(1, words, stderr="no such package\n")
        wheel = tmp_path / "some_photos-1.2-py3-none-any.whl"
        (folder / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(module, "run", download)
    monkeypatch.setattr(module, "TABLE", path)
    return path


def test_listed_photos_are_written_reduced_and_attributed_and_the_rest_is_named(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="2 of 4 photos are in") as error:
        photos(PhotosConfig(out=out))
    assert "large.jpg of some-photos 1.2 (is another file than the listed one)" in str(error.value)
    assert "no-photos (no such package" in str(error.value)
    large, small = read_table(table)[:2]
    assert sorted(path.name for path in out.iterdir()) == sorted([ATTRIBUTION, large.name, small.name])
    assert Image.open(out / large.name).size == (1536, 768) and Image.open(out / small.name).size == (90, 70)
    with (out / ATTRIBUTION).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS and len(lines) == 2
    assert lines[0]["source_repository"] == "PyPI package some-photos 1.2"
    assert lines[0]["licence_words"] == "CC0 (LICENSE), Ann"
    data = (tmp_path / "wheel" / "large.jpg").read_bytes()
    assert lines[0]["git_blob"] == hashlib.sha1(b"blob " + str(len(data)).encode() + b"\0" + data).hexdigest()


def test_the_command_fails_with_a_sentence(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["photos", "--out", str(tmp_path / "out")]) == 1
    assert "error: 2 of 4 photos" in capsys.readouterr().err


def test_debian_packages_need_debians_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="apt-get is not installed"):
        module.unpack("debian", "mate-backgrounds", tmp_path)


def test_the_shipped_table_is_whole() -> None:
    listed = read_table(TABLE)
    assert len({photo.name for photo in listed}) == len(listed) >= 20
    assert len({photo.package for photo in listed}) <= 10
    for photo in listed:
        assert photo.source in ("debian", "pypi") and len(photo.sha256) == 64
        assert photo.author and "(" in photo.licence, "who made it, and where the licence is stated"
        assert "GPL" not in photo.licence, "a licence for pictures, which weights can inherit"

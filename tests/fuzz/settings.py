"""Throw damaged settings at their parsers: `python -m tests.fuzz.settings --count 7000`.

Guidance presets, recipes, and recipes within a PNG's text entries. Each must be read, with values in range, or refused
by one sentence. Input N depends on (seed, N) alone.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gendrpix.image.write import write_png
from gendrpix.settings.checks import MAX_BYTES, SettingsError
from gendrpix.settings.presets import GUIDANCE_FORMAT, PRESETS, from_json, to_json
from gendrpix.settings.recipe import Recipe, png_entries
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS, MAX_OMEGA
from tests.fuzz.pictures import DAMAGES, mend_checksums

PIXELS = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
VALUES = (
    None, True, False, 0, 1, -1, 7, 8, 1.5, 4.0, 1e308, -1e308, 10**400, 0.1 + 0.2, "", "none", "padcfg", "gendr-pix",
    "<script>alert(1)</script>", "../../etc/passwd", "\0", "\ud800", "9" * 5000, [], [3, 3], [3.0, 3], ["3", 3], [[]],
    {},
    {"a": {}}, [0] * 3000,
)  # fmt: skip
PIECES = (
    b"NaN",
    b"Infinity",
    b"-0",
    b"1e999",
    b"[" * 2000,
    b'{"a":' * 500,
    b"\xff",
    b"\xed\xa0\x80",
    b'"omega": 9',
    b",",
)
RECIPE = {
    "restorer": "gendr-pix", "weights": "mini", "scale": 4.0, "guidance": 1.5, "dtype": "float32", "version": "0.1.0",
    "pos_pad": [4, 4], "neg_pad": [3, 3], "weights_sha256": "0" * 64, "input_sha256": "1" * 64,
}  # fmt: skip

OLD_PRESET = {"format": GUIDANCE_FORMAT, "kind": "padcfg", "omega": 1.5, "pos_pad": [4, 4], "neg_pad": [3, 3]}
"""As version 0.1.0 wrote it."""


def check_settings(settings: RestoreSettings) -> None:
    assert settings.choice in CHOICE_LABELS and (settings.scale is None) != (settings.size_px is None)
    assert settings.scale is None or 1 <= settings.scale <= 8
    assert settings.guidance is None or 0 <= settings.guidance <= MAX_OMEGA
    assert all(type(one) is int and 0 <= one <= 7 for pad in settings.pads if pad is not None for one in pad)
    assert from_json(to_json(settings)) == settings


def read_preset(data: bytes) -> None:
    check_settings(from_json(data))


def read_recipe(data: bytes) -> None:
    check_recipe(Recipe.from_json(data.decode("utf-8", "surrogateescape")))


def check_recipe(recipe: Recipe) -> None:
    assert isinstance(recipe.weights, str)
    check_settings(recipe.settings)


class PngTarget:
    """Reads a recipe out of a PNG file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "result.png"
        file = io.BytesIO()
        write_png(file, PIXELS, png_entries(RECIPE))
        self.seed = file.getvalue()

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        check_recipe(Recipe.from_png(self.path))


def outcome(read: Callable[[bytes], None], data: bytes) -> str:
    """ "read", "refused", or what went wrong."""
    try:
        read(data)
    except SettingsError as error:
        message = str(error)
        fine = "\n" not in message and message.endswith(".") and len(message) < 1000 and message.isprintable()
        return "refused" if fine else f"no sentence: {message[:300]!r}"
    except BaseException as error:  # nothing else may come out
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "read"


# Inputs --------------------------------------------------------------------------------------------------------------


def changed(document: dict[str, object], rng: random.Random) -> bytes:
    """A document with another value, a key less or a key more."""
    document = dict(document)
    key = rng.choice(list(document))
    action = rng.randrange(4)
    if action == 0:
        del document[key]
    elif action == 1:
        document[f"{key}{rng.choice('2_ ')}"] = rng.choice(VALUES)
    else:
        document[key] = rng.choice(VALUES)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def damaged(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data and rng.random() < 0.7:
            rng.choice(DAMAGES)(data, rng, whole)
        else:
            at = rng.randrange(len(data) + 1)
            data[at:at] = rng.choice(PIECES)
    return bytes(data)


def make_input(name: str, png: PngTarget, seed: int, at: int) -> bytes:
    """Input `at` of a target: a changed document, damaged bytes, or both."""
    rng = random.Random(f"{seed} {name} {at}")
    document = (
        RECIPE if name != "preset" else OLD_PRESET if rng.random() < 0.5 else json.loads(to_json(PRESETS["Paper"]))
    )
    whole = changed(document, rng) if rng.random() < 0.6 else json.dumps(document).encode()
    if name != "png":
        return damaged(whole, rng) if rng.random() < 0.6 else whole
    if rng.random() < 0.5:
        file = io.BytesIO()
        text = whole.decode("utf-8", "replace")[: 4 * MAX_BYTES]
        write_png(file, PIXELS, {"gendrpix": text})
        return file.getvalue()
    made = damaged(png.seed, rng)
    return mend_checksums(made) if rng.random() < 0.7 else made


def fuzz(targets: dict[str, Callable[[bytes], None]], png: PngTarget, count: int, seed: int) -> int:
    """Run and report; the number of inputs that went wrong."""
    kinds: Counter[str] = Counter()
    slowest = 0.0
    warnings.simplefilter("error")  # a warning would be seen by whoever runs the server
    for at in range(count):
        for name, read in targets.items():
            data = make_input(name, png, seed, at)
            began = time.thread_time()
            kind = outcome(read, data)
            slowest = max(slowest, time.thread_time() - began)
            if kind not in ("read", "refused"):
                print(f"{name} input {at}: {kind}\n  {data[:200]!r}", flush=True)
                kind = "wrong"
            kinds[f"{name} {kind}"] += 1
    print(f"{count} inputs each: " + ", ".join(f"{name} {number}" for name, number in sorted(kinds.items())))
    print(f"slowest: {slowest:.3f} s of CPU")
    return sum(number for name, number in kinds.items() if name.endswith("wrong"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=7000, help="inputs for each of the three parsers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        png = PngTarget(Path(folder))
        targets = {"preset": read_preset, "recipe": read_recipe, "png": png.read}
        return 1 if fuzz(targets, png, options.count, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())

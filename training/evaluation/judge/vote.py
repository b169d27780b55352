"""The vote of `judge`: pairs of crops without names, the form to fill in, and the key, which voters do not see.

Every photo gives one crop of 256 x 256 pixels of the result. Its place depends on the seed, on the photo's number in
the order of the names, and on its size, so that it is fixed before there is any result. The order of the pairs and the
side of each method depend on the seed and the methods' names.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gendrpix.files import make_folder, write_text
from gendrpix.image.write import save_png
from gendrpix.report.plots import PAPER
from gendrpix.specs import Box

VOTE_PX = 256
GAP_PX = 16
"""White between the two crops of a pair."""
COLUMNS = ("pair", "choice", "voter")


class Sides(NamedTuple):
    """The two methods of a vote, by name."""

    ours: str
    other: str


def draw_places(sizes: Mapping[str, tuple[int, int]], seed: int, side_px: int = VOTE_PX) -> dict[str, Box]:
    """Photo => a square of `side_px` at a random place of its result; a shorter side is taken whole.

    sizes: photo => (width, height) of the result, in the order of the names. Smaller squares are the middles of those
    of 256 pixels.
    """
    places = {}
    for index, (name, (width, height)) in enumerate(sizes.items()):
        rng = np.random.default_rng([seed, index])
        corner = [int(rng.integers(max(0, side - VOTE_PX) + 1)) for side in (width, height)]
        large = [min(VOTE_PX, side) for side in (width, height)]
        small = [min(side_px, side) for side in large]
        left, top = (at + (whole - part) // 2 for at, whole, part in zip(corner, large, small, strict=True))
        places[name] = Box(left, top, *small)
    return places


def split_votes(words: Sequence[str], names: Sequence[str]) -> list[Sides]:
    """OURS=OTHER => the two methods. Raises ValueError for a malformed word, unknown methods, or the same twice."""
    found = []
    for word in words:
        ours, _, other = word.partition("=")
        if ours == other or ours not in names or other not in names:
            raise ValueError(f"--vote got {word!r}; expected OURS=OTHER, two of the methods {', '.join(names)}.")
        found.append(Sides(ours, other))
    return found


class Ballot:
    """Writes one vote: vote-N with pairs/NN.png and votes.csv for the voters, and keys/vote-N.json for who counts."""

    def __init__(
        self,
        out: Path,
        number: int,
        sides: Sides,
        sizes: Mapping[str, tuple[int, int]],
        seed: int,
        *,
        overwrite: bool = False,
    ) -> None:
        """sizes: as `draw_places` takes them. Raises ValueError where the vote exists already, unless overwrite."""
        self.sides, self.seed, self.places = sides, seed, draw_places(sizes, seed)
        self.folder, self.key = out / f"vote-{number}", out / "keys" / f"vote-{number}.json"
        if self.key.exists() and not overwrite:
            raise ValueError(f"{self.key} exists already; choose another --out or pass --overwrite.")
        rng = random.Random(f"{seed} {sides.ours} {sides.other}")
        self._order = {name: rng.random() for name in sizes}
        self._ours_left = {name: rng.random() < 0.5 for name in sizes}
        self._crops: dict[str, Image.Image] = {}

    def add(self, photo: str, pictures: Mapping[str, Image.Image]) -> None:
        """Cut one photo's pair. pictures: method => RGB result."""
        box = self.places[photo].corners
        ours, other = (pictures[name].crop(box) for name in self.sides)
        left, right = (ours, other) if self._ours_left[photo] else (other, ours)
        pair = Image.new("RGB", (left.width + GAP_PX + right.width, left.height), PAPER)
        pair.paste(left, (0, 0))
        pair.paste(right, (left.width + GAP_PX, 0))
        self._crops[photo] = pair

    def finish(self, *, label: str, groups: Mapping[str, Sequence[str]]) -> None:
        """Write pairs, form and key; pairs of an earlier vote go. label: what the count calls the set of photos."""
        pairs_folder = self.folder / "pairs"
        make_folder(pairs_folder)
        make_folder(self.key.parent)
        for old in pairs_folder.glob("*.png"):
            old.unlink()
        digits = max(2, len(str(len(self._crops))))
        pairs: list[dict[str, Any]] = []
        for number, photo in enumerate(sorted(self._crops, key=self._order.__getitem__), start=1):
            name = f"{number:0{digits}d}"
            path = save_png(self._crops[photo], pairs_folder / f"{name}.png", overwrite=True)
            pairs.append(
                {
                    "pair": name,
                    "photo": photo,
                    "ours": "left" if self._ours_left[photo] else "right",
                    "box": list(self.places[photo]),
                    "groups": [group for group, photos in groups.items() if photo in photos],
                    "sha256": digest_file(path),
                }
            )
        form = io.StringIO(newline="")
        writer = csv.writer(form)
        writer.writerow(COLUMNS)
        writer.writerows((pair["pair"], "", "") for pair in pairs)
        write_text(self.folder / "votes.csv", form.getvalue())
        document = {**self.sides._asdict(), "set": label, "seed": self.seed, "pairs": pairs}
        write_text(self.key, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

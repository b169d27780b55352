"""Counting a vote of `judge`: the share that ours got, with an interval over pairs, and every lost pair on a page.

A vote is 1 for the method preferred and 1/2 for each in a tie. The votes on one pair are not independent, so a pair's
mean over its voters is one observation: the interval is Student's t over pairs (`training.evaluation.statistics`),
within 0 and 1. Where all pairs agree on one side, it is the exact binomial one (Clopper and Pearson 1934).
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gendrpix.files import make_folder, write_text, written_beside
from gendrpix.report.tables import DASH, Table
from training.evaluation.datasets import enumerated
from training.evaluation.figures import to_webp
from training.evaluation.judge.sheets import side_by_side
from training.evaluation.judge.vote import COLUMNS, GAP_PX, digest_file
from training.evaluation.statistics import CONFIDENCE, FEWEST_PICTURES, Interval, mean_interval

CHOICES = ("left", "right", "tie")
FEWEST_VOTERS = 3
PAGE, DOCUMENT = "votes.md", "votes.json"
PICTURE_BYTES = 60_000
"""What the picture of one lost pair may weigh."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """One pair: what each voter gave to ours."""

    pair: str
    photo: str
    groups: tuple[str, ...]
    ours: str
    """ "left" or "right"."""
    given: Mapping[str, float]
    """Voter => 1 for ours, 0 for the other, 1/2 for a tie."""

    @property
    def share(self) -> float:
        """Mean over the voters."""
        return sum(self.given.values()) / len(self.given)


def count_votes(key: Path, files: Sequence[Path], out: Path, *, overwrite: bool = False) -> Path:
    """Write votes.md with the result and the lost pairs, and votes.json; gives back the page's path.

    key: keys/vote-N.json; the pairs lie in vote-N beside its folder. Raises ValueError for a key or votes that do not
    fit, fewer than three voters, or pairs that have changed since the key was written.
    """
    page = out / PAGE
    if page.exists() and not overwrite:
        raise ValueError(f"{page} exists already; choose another --out or pass --overwrite.")
    document = read_key(key)
    pairs_folder = key.parent.parent / key.stem / "pairs"
    check_pairs(document, pairs_folder)
    names = [pair["pair"] for pair in document["pairs"]]
    votes = read_votes(files, names)
    tallies = [tally_pair(pair, votes) for pair in document["pairs"]]
    lost = sorted((tally for tally in tallies if tally.share < 0.5), key=lambda tally: (tally.share, tally.pair))
    make_folder(out / "lost")
    for old in (out / "lost").glob("*.webp"):
        old.unlink()
    for tally in lost:
        show_pair(pairs_folder / f"{tally.pair}.png", tally, document, out / "lost" / f"{tally.pair}.webp")
    write_text(out / DOCUMENT, json.dumps(to_document(document, tallies), indent=2, ensure_ascii=False) + "\n")
    write_text(page, to_markdown(document, tallies, lost))
    return page


# Reading -----------------------------------------------------------------------------------------------------------


def read_key(key: Path) -> dict[str, Any]:
    """The key that the pairs were written with. Raises ValueError for anything else."""
    try:
        document = json.loads(key.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{key} cannot be read as a key ({type(error).__name__}); pass keys/vote-N.json.") from error
    if not isinstance(document, dict) or not {"ours", "other", "pairs"} <= document.keys() or not document["pairs"]:
        raise ValueError(f"{key.name} is no key of a vote; pass keys/vote-N.json, which judge wrote.")
    return document


def check_pairs(document: Mapping[str, Any], folder: Path) -> None:
    """Raise ValueError unless every pair is there as the voters saw it."""
    for pair in document["pairs"]:
        path = folder / f"{pair['pair']}.png"
        if not path.is_file() or digest_file(path) != pair["sha256"]:
            what = "has changed since the key was written" if path.is_file() else "is missing"
            raise ValueError(f"{path} {what}; count with the folder that the voters saw.")


def read_votes(files: Sequence[Path], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Voter => pair => choice, of files with the columns pair, choice and voter. One file may hold several voters.

    Raises ValueError for other columns, pairs or choices, a vote without a voter, cast twice or missing, and for fewer
    than three voters.
    """
    votes: dict[str, dict[str, str]] = {}
    for file in files:
        for line, row in enumerate(read_rows(file), start=2):
            pair, choice, voter = ((row[column] or "").strip() for column in COLUMNS)
            where = f"{file.name}, line {line}"
            if pair not in names:
                raise ValueError(f"{where}: there is no pair {pair!r}; expected {names[0]} to {names[-1]}.")
            if choice not in CHOICES:
                raise ValueError(f"{where}: the choice is {choice!r}; expected one of {', '.join(CHOICES)}.")
            if not voter:
                raise ValueError(f"{where}: the voter is missing; fill in the column voter.")
            if pair in votes.setdefault(voter, {}):
                raise ValueError(f"{where}: {voter} has voted on pair {pair} twice; keep one of the votes.")
            votes[voter][pair] = choice
    for voter, cast in votes.items():
        missing = [name for name in names if name not in cast]
        if missing:
            raise ValueError(f"{voter} has not voted on {len(missing)} of {len(names)} pairs ({enumerated(missing)}).")
    if len(votes) < FEWEST_VOTERS:
        raise ValueError(f"There are {len(votes)} voters; expected at least {FEWEST_VOTERS}. Pass more files of votes.")
    return votes


def read_rows(file: Path) -> list[dict[str, str]]:
    """The lines of one file of votes. Raises ValueError where it cannot be read or lacks a column."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({type(error).__name__}); give a CSV file of votes.") from error
    reader = csv.DictReader(text.splitlines())
    columns = list(reader.fieldnames or ())
    if not set(COLUMNS) <= set(columns):
        raise ValueError(f"{file.name} has the columns {', '.join(columns) or 'none'}; expected {', '.join(COLUMNS)}.")
    return list(reader)


def tally_pair(pair: Mapping[str, Any], votes: Mapping[str, Mapping[str, str]]) -> Tally:
    """What each voter gave to ours in one pair of the key."""
    cast = {voter: of_one[pair["pair"]] for voter, of_one in votes.items()}
    given = {voter: 0.5 if choice == "tie" else float(choice == pair["ours"]) for voter, choice in cast.items()}
    return Tally(pair=pair["pair"], photo=pair["photo"], groups=tuple(pair["groups"]), ours=pair["ours"], given=given)


# Writing -----------------------------------------------------------------------------------------------------------


def share_of(tallies: Sequence[Tally]) -> Interval:
    """The share of votes that ours got, with its interval over pairs.

    Where every pair went wholly to one side, t has no width; the exact binomial interval of n in n takes its place.
    """
    share = mean_interval([tally.share for tally in tallies])
    low, high = max(share.low, 0.0), min(share.high, 1.0)
    furthest = ((1 - CONFIDENCE) / 2) ** (1 / len(tallies))
    if share.low == share.high == 0:
        high = 1 - furthest
    elif share.low == share.high == 1:
        low = furthest
    return dataclasses.replace(share, low=low, high=high)


def by_group(tallies: Sequence[Tally]) -> dict[str, list[Tally]]:
    """Group => its pairs, sorted by name."""
    names = sorted({group for tally in tallies for group in tally.groups})
    return {name: [tally for tally in tallies if name in tally.groups] for name in names}


def to_document(key: Mapping[str, Any], tallies: Sequence[Tally]) -> dict[str, Any]:
    """The result as plain values."""
    return {
        "ours": key["ours"],
        "other": key["other"],
        "set": key.get("set", ""),
        "confidence": CONFIDENCE,
        "interval": "t, within 0 and 1; exact binomial where all pairs agree",
        "voters": list(tallies[0].given),
        "num_votes": sum(len(tally.given) for tally in tallies),
        "votes_for_ours": sum(sum(tally.given.values()) for tally in tallies),
        "share": share_of(tallies).to_dict(),
        "groups": {name: share_of(of_one).to_dict() for name, of_one in by_group(tallies).items()},
        "pairs": [
            {"pair": tally.pair, "photo": tally.photo, "share": tally.share, "given": dict(tally.given)}
            for tally in tallies
        ],
    }


def to_markdown(key: Mapping[str, Any], tallies: Sequence[Tally], lost: Sequence[Tally]) -> str:
    """The page: the result, by voter and group, and every lost pair."""
    ours, other, voters = key["ours"], key["other"], list(tallies[0].given)
    rows = [("All", *result_cells(tallies))]
    rows += [(f"Group: {name}", *result_cells(of_one)) for name, of_one in by_group(tallies).items()]
    for voter in voters:
        alone = [
            Tally(pair=t.pair, photo=t.photo, groups=(), ours=t.ours, given={voter: t.given[voter]}) for t in tallies
        ]
        rows.append((f"Voter: {voter}", *result_cells(alone)))
    table = Table(header=("", "Pairs", f"Votes for {ours}", "Of", "Ties", "Share, 95% interval"), rows=tuple(rows))
    lines = [
        f"# {ours} against {other}",
        "",
        f"{key.get('set', '')}: {len(tallies)} pairs of crops, {len(voters)} voters. A tie is half a vote.",
        "The interval is Student's t over pairs, of a pair's mean over its voters.",
        f"Below {FEWEST_PICTURES} pairs there is none ({DASH}).",
        "It holds for other photos of this kind and the same voters.",
        "",
        table.to_markdown(),
        "",
        f"## Lost pairs: {len(lost)} of {len(tallies)}",
        "",
        f"{ours} is on the left here. Voters saw the two in random order without names.",
        "",
    ]
    for tally in lost:
        said = ", ".join(f"{voter} {given:g}" for voter, given in tally.given.items())
        lines += [
            f"### {tally.photo} (pair {tally.pair})",
            "",
            f"Votes for {ours}: {said}",
            "",
            f"![{tally.photo}: {ours} and {other}](lost/{tally.pair}.webp)",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def result_cells(tallies: Sequence[Tally]) -> tuple[str, ...]:
    """Pairs, votes for ours, all votes, ties, share with its interval."""
    given = [value for tally in tallies for value in tally.given.values()]
    if not given:
        return ("0", *(DASH,) * 4)
    return (
        str(len(tallies)),
        f"{sum(given):g}",
        str(len(given)),
        str(given.count(0.5)),
        share_of(tallies).to_text(3),
    )


def show_pair(pair: Path, tally: Tally, key: Mapping[str, Any], path: Path) -> None:
    """Write one pair as WebP with names above, ours on the left."""
    with Image.open(pair) as opened:
        both = opened.convert("RGB")
    width = (both.width - GAP_PX) // 2
    left = both.crop((0, 0, width, both.height))
    right = both.crop((width + GAP_PX, 0, both.width, both.height))
    ours, other = (left, right) if tally.ours == "left" else (right, left)
    shown = side_by_side({key["ours"]: ours, key["other"]: other})
    with written_beside(path, overwrite=True) as file:
        file.write(to_webp(shown, PICTURE_BYTES))

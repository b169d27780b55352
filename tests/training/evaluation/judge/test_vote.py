"""The vote: places before results, pairs that tell nothing, and a count that follows its formula."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.evaluation.test_evaluate import write_photos
from training.__main__ import main
from training.evaluation.judge.config import JudgeConfig
from training.evaluation.judge.count import Tally, count_votes, share_of
from training.evaluation.judge.judge import judge
from training.evaluation.judge.vote import Ballot, Sides, draw_places

SIZES = {f"p{index}": (300 + 40 * index, 280) for index in range(8)}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A vote of eight pairs: ours is dark, the other bright."""
    return write_ballot(tmp_path / "out")


def write_ballot(out: Path, levels: tuple[int, int] = (40, 200), sides: tuple[str, str] = ("ours", "peer")) -> Path:
    ballot = Ballot(out, 1, Sides(*sides), SIZES, seed=0)
    for photo, size in SIZES.items():
        ballot.add(
            photo, {name: Image.new("RGB", size, (level,) * 3) for name, level in zip(sides, levels, strict=True)}
        )
    ballot.finish(label="eight photos", groups={"faces": ("p0", "p1"), "text": ("p7",)})
    return ballot.key


def write_votes(folder: Path, key: Path, voter: str, given: list[float]) -> Path:
    """Votes by what ours gets, in the key's order of pairs."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{voter}.csv"
    lines = ["pair,choice,voter"]
    for pair, value in zip(json.loads(key.read_text(encoding="utf-8"))["pairs"], given, strict=True):
        other = "right" if pair["ours"] == "left" else "left"
        lines.append(f"{pair['pair']},{ {1: pair['ours'], 0: other, 0.5: 'tie'}[value] },{voter}".replace(" ", ""))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_places_are_known_before_the_results_and_lie_within(tmp_path: Path) -> None:
    places = draw_places(SIZES, 0)
    assert places == draw_places(dict(SIZES), 0) and places != draw_places(SIZES, 1)
    for name, box in places.items():
        width, height = SIZES[name]
        assert (box.width, box.height) == (256, 256)
        assert 0 <= box.left <= width - 256 and 0 <= box.top <= height - 256
    assert len({box.left for box in places.values()}) > 4
    small = draw_places(SIZES, 0, 64)
    assert all(small[name][:2] == (box.left + 96, box.top + 96) for name, box in places.items())
    assert draw_places({"low": (900, 100), "tiny": (80, 70)}, 3)["tiny"] == (0, 0, 80, 70)
    assert draw_places({"low": (900, 100)}, 3)["low"].height == 100
    keys = [write_ballot(tmp_path / str(index), levels) for index, levels in enumerate([(40, 200), (0, 255)])]
    pairs = [json.loads(one.read_text(encoding="utf-8"))["pairs"] for one in keys]
    for first, second in zip(*pairs, strict=True):  # other results, the same places, sides and order
        assert {**first, "sha256": ""} == {**second, "sha256": ""}
        assert first["box"] == list(places[first["photo"]])


def test_the_pairs_tell_nothing_but_the_pictures(key: Path) -> None:
    folder = key.parent.parent / "vote-1"
    assert sorted(path.name for path in folder.iterdir()) == ["pairs", "votes.csv"]
    document = json.loads(key.read_text(encoding="utf-8"))
    with (folder / "votes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"pair": f"{number:02d}", "choice": "", "voter": ""} for number in range(1, 9)
        ]
    assert [pair["photo"] for pair in document["pairs"]] != list(SIZES)  # shuffled
    assert {pair["ours"] for pair in document["pairs"]} == {"left", "right"}
    for pair in document["pairs"]:
        path = folder / "pairs" / f"{pair['pair']}.png"
        with Image.open(path) as opened:
            assert opened.size == (256 + 16 + 256, 256) and set(opened.info) <= {"srgb"}
            pixels = np.asarray(opened)
        assert pixels[0, 0, 0] == (40 if pair["ours"] == "left" else 200) and (pixels[:, 256:272] == 255).all()
        assert b"ours" not in path.read_bytes() and b"peer" not in path.read_bytes()


def test_other_methods_have_other_sides(tmp_path: Path, key: Path) -> None:
    other = write_ballot(tmp_path / "other", sides=("ours", "third"))
    sides = [
        {pair["photo"]: pair["ours"] for pair in json.loads(one.read_text(encoding="utf-8"))["pairs"]}
        for one in (key, other)
    ]
    assert sides[0] != sides[1]


def test_the_count_follows_its_formula(key: Path, tmp_path: Path) -> None:
    given = {
        "ann": [1, 1, 1, 1, 0.5, 0, 1, 1],
        "bob": [1, 0, 1, 0.5, 0.5, 0, 1, 0],
        "cid": [1, 0, 1, 1, 0, 0, 1, 1],
    }
    files = [write_votes(tmp_path / "votes", key, voter, values) for voter, values in given.items()]
    page = count_votes(key, files, tmp_path / "count")
    document = json.loads((tmp_path / "count" / "votes.json").read_text(encoding="utf-8"))
    table = np.array(list(given.values()))  # voters x pairs
    assert document["num_votes"] == 24 and document["votes_for_ours"] == table.sum() == 15.5
    shares = table.mean(axis=0)
    assert [pair["share"] for pair in document["pairs"]] == pytest.approx(list(shares))
    half = 2.364624 * shares.std(ddof=1) / np.sqrt(8)  # Student's t of 7 degrees, over pairs and not over votes
    low, high = shares.mean() - half, shares.mean() + half
    assert document["share"]["mean"] == pytest.approx(shares.mean())
    assert (document["share"]["low"], document["share"]["high"]) == pytest.approx((low, high), abs=1e-5)
    single = np.random.default_rng(7).choice(table.ravel(), (40_000, 24)).mean(axis=1)  # as if votes were independent
    assert high - low > 1.2 * np.subtract(*np.quantile(single, [0.975, 0.025]))
    text = page.read_text(encoding="utf-8")
    assert "| All | 8 | 15.5 | 24 | 3 | 0.646 [" in text and "| Voter: ann | 8 | 6.5 | 8 | 1 |" in text
    assert "| Group: faces | 2 |" in text and "| Group: text | 1 |" in text
    names = [pair["pair"] for pair in json.loads(key.read_text(encoding="utf-8"))["pairs"]]
    lost = {names[index] for index in range(8) if shares[index] < 0.5}
    assert len(lost) == 3 and {path.stem for path in (tmp_path / "count" / "lost").iterdir()} == lost
    assert "## Lost pairs: 3 of 8" in text and all(f"(lost/{name}.webp)" in text for name in lost)
    shown = np.asarray(Image.open(tmp_path / "count" / "lost" / f"{names[5]}.webp").convert("L")).astype(int)
    assert shown[150, 100] < 60 and shown[150, 400] > 180  # ours on the left, whatever the voters saw


def test_all_ties_are_half(key: Path, tmp_path: Path) -> None:
    files = [write_votes(tmp_path / "votes", key, voter, [0.5] * 8) for voter in ("a", "b", "c", "d")]
    text = count_votes(key, files, tmp_path / "count").read_text(encoding="utf-8")
    assert "| All | 8 | 16 | 32 | 32 | 0.500 [0.500, 0.500] |" in text and "## Lost pairs: 0 of 8" in text


def test_votes_that_do_not_fit_are_refused(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [write_votes(tmp_path / "votes", key, voter, [1] * 8) for voter in ("a", "b", "c")]
    text = good[0].read_text(encoding="utf-8")
    for change, message in (
        (("01,", "1,"), r"a.csv, line 2: there is no pair '1'; expected 01 to 08"),
        ((",a\n", ",\n"), r"a.csv, line 2: the voter is missing"),
        (("choice", "vote"), r"a.csv has the columns pair, vote, voter; expected pair, choice, voter"),
        (("left", "lef"), r"the choice is 'lef'; expected one of left, right, tie"),
        (("02,", "01,"), r"a has voted on pair 01 twice"),
    ):
        good[0].write_text(text.replace(*change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            count_votes(key, good, tmp_path / "count")
    good[0].write_text("".join(text.splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a has not voted on 1 of 8 pairs \(08\)"):
        count_votes(key, good, tmp_path / "count")
    good[0].write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="There are 2 voters; expected at least 3"):
        count_votes(key, good[:2], tmp_path / "count")
    with pytest.raises(ValueError, match="cannot be read as a key"):
        count_votes(tmp_path / "none.json", good, tmp_path / "count")
    with pytest.raises(ValueError, match="is no key of a vote"):
        (tmp_path / "odd.json").write_text("[]", encoding="utf-8")
        count_votes(tmp_path / "odd.json", good, tmp_path / "count")
    assert not (tmp_path / "count").exists()
    words = ["judge", "--out", str(tmp_path / "count"), "--count", str(key), *map(str, good)]
    assert main(words) == 0 and "votes.md" in capsys.readouterr().out
    assert main(words) == 1 and "exists already" in capsys.readouterr().err
    pair = key.parent.parent / "vote-1" / "pairs" / "03.png"
    Image.new("RGB", (528, 256)).save(pair)
    with pytest.raises(ValueError, match=r"03.png has changed since the key was written"):
        count_votes(key, good, tmp_path / "other")


def test_the_command_writes_pairs_of_its_results_and_keeps_them(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "real", {"a": (70, 66), "b": (20, 80)})
    peer = write_photos(tmp_path / "peer", {"a": (280, 264), "b": (80, 320)}, 1)
    config = JudgeConfig(
        out=tmp_path / "out",
        photos=photos,
        weights=(),
        outputs=(f"peer={peer}",),
        reference="peer",
        vote=("bicubic=peer",),
        metrics=("grid",),
        device="cpu",
    )
    judge(config)
    document = json.loads((config.out / "keys" / "vote-1.json").read_text(encoding="utf-8"))
    for pair in document["pairs"]:
        left, top, width, height = pair["box"]
        truth = np.asarray(Image.open(peer / f"{pair['photo']}.png"))[top : top + height, left : left + width]
        shown = np.asarray(Image.open(config.out / "vote-1" / "pairs" / f"{pair['pair']}.png"))
        half = shown[:, width + 16 :] if pair["ours"] == "left" else shown[:, :width]
        assert np.array_equal(half, truth)
        assert (width, height) == ((256, 256) if pair["photo"] == "a" else (80, 256))
    (config.out / "judge.json").unlink()
    with pytest.raises(ValueError, match=r"vote-1.json exists already"):
        judge(config)
    judge(dataclasses.replace(config, overwrite=True))
    again = json.loads((config.out / "keys" / "vote-1.json").read_text(encoding="utf-8"))
    assert again == document


def tally(*given: float) -> Tally:
    return Tally(pair="p", photo="p", groups=(), ours="left", given={str(i): one for i, one in enumerate(given)})


def test_the_interval_of_a_share_stays_within_0_and_1_and_has_a_width_where_all_agree() -> None:
    few = share_of([tally(1, 1, 1)] * 4)
    assert few.mean == 1 and few.to_text(3) == "1.000 [–]"
    all_ours, all_theirs = share_of([tally(1, 1, 1)] * 10), share_of([tally(0, 0, 0)] * 10)
    assert (all_ours.low, all_ours.high) == pytest.approx((0.6915, 1), abs=1e-4)  # Clopper and Pearson, 10 of 10
    assert (all_theirs.low, all_theirs.high) == pytest.approx((0, 0.3085), abs=1e-4)
    mixed = share_of([*[tally(1, 1, 0.5)] * 5, tally(0, 0, 0)])
    assert mixed.low < mixed.mean < mixed.high == 1

"""Bradley-Terry: known odds come out, shuffles change nothing, nobody becomes infinitely strong."""

import csv
import io
import math
import random
from itertools import combinations

import pytest

from gendrpix.comparison.ranking import Vote, next_pair, rank, ranking_csv, votes_csv


def votes(*lines: tuple[str, str, str | None]) -> list[Vote]:
    return [Vote(first=first, second=second, winner=winner) for first, second, winner in lines]


def test_two_players_have_the_odds_of_their_wins() -> None:
    """3000 to 1000 wins are odds of 3: 400 log10(3) points between them, the two virtual games aside."""
    first, second = rank(votes(*[("a", "b", "a")] * 3000, *[("b", "a", "b")] * 1000))
    assert (first.name, first.wins, first.losses) == ("a", 3000, 1000)
    assert first.points - second.points == pytest.approx(400 * math.log10(3), rel=0.01)
    assert first.points + second.points == pytest.approx(0, abs=1e-6)


def test_known_strengths_are_found_within_their_errors() -> None:
    rng, strengths = random.Random(1), {"a": 4.0, "b": 2.0, "c": 1.0, "d": 0.5}
    cast = []
    for first, second in list(combinations(strengths, 2)) * 150:
        share = strengths[first] / (strengths[first] + strengths[second])
        cast.append(Vote(first=first, second=second, winner=first if rng.random() < share else second))
    ranks = rank(cast)
    assert [one.name for one in ranks] == list("abcd")
    middle = sum(400 * math.log10(value) for value in strengths.values()) / 4
    for one in ranks:
        assert abs(one.points - (400 * math.log10(strengths[one.name]) - middle)) < 1.5 * one.error_points
        assert 10 < one.error_points < 80
    rng.shuffle(cast)
    assert [one.points for one in rank(cast)] == pytest.approx([one.points for one in ranks], abs=1e-4)


def test_who_never_lost_stays_finite_and_errors_shrink() -> None:
    few, many = rank(votes(*[("a", "b", "a")] * 2)), rank(votes(*[("a", "b", "a")] * 200))
    assert 0 < few[0].points < many[0].points < 2000
    even = [rank(votes(*[("a", "b", "a"), ("a", "b", "b")] * n))[0].error_points for n in (3, 100)]
    assert even[1] < even[0]


def test_ties_are_half_a_win_each() -> None:
    first, second = rank(votes(("a", "b", None), ("b", "a", None)))
    assert first.points == pytest.approx(second.points) == pytest.approx(0) and first.ties == 2 and first.wins == 0
    half = rank(votes(*[("a", "b", None)] * 100, *[("a", "b", "a")] * 100))
    whole = rank(votes(*[("a", "b", "b")] * 50, *[("a", "b", "a")] * 150))
    assert half[0].points == pytest.approx(whole[0].points, abs=1e-6)


def test_pairs_come_in_equal_numbers_and_either_order() -> None:
    rng, cast = random.Random(0), []
    for _ in range(60):
        first, second = next_pair(["a", "b", "c"], cast, rng)
        cast.append(Vote(first=first, second=second, winner=None))
    counts = {pair: sum({v.first, v.second} == set(pair) for v in cast) for pair in combinations("abc", 2)}
    assert set(counts.values()) == {20}
    assert 10 < sum(vote.first < vote.second for vote in cast) < 50


def test_refusals() -> None:
    assert rank([]) == []
    with pytest.raises(ValueError, match="needs two results"):
        next_pair(["a", "a"], [], random.Random(0))
    for wrong in (("a", "a", None), ("a", "b", "c")):
        with pytest.raises(ValueError, match="one of two or neither"):
            votes(wrong)


def test_csv() -> None:
    cast = [Vote(first="GenDR", second='say "x", y', winner="GenDR", picture="cat.png")]
    lines = list(csv.DictReader(io.StringIO(ranking_csv(rank(cast)))))
    assert [line["name"] for line in lines] == ["GenDR", 'say "x", y'] and lines[0]["place"] == "1"
    assert float(lines[0]["points"]) == rank(cast)[0].points
    [vote] = csv.DictReader(io.StringIO(votes_csv(cast)))
    assert vote == {"picture": "cat.png", "first": "GenDR", "second": 'say "x", y', "winner": "GenDR"}


def test_fewer_than_five_votes_have_no_interval() -> None:
    few, enough = rank(votes(*[("a", "b", "a")] * 4)), rank(votes(*[("a", "b", "a")] * 5))
    assert all(math.isnan(one.error_points) for one in few) and all(one.error_points > 0 for one in enough)
    [line, _] = csv.DictReader(io.StringIO(ranking_csv(few)))
    assert line["error_points_95"] == ""


@pytest.mark.parametrize("count", [5, 8, 20])
def test_the_interval_holds_the_true_points_of_two_players(count: int) -> None:
    """Exact: every number of wins, weighted by its binomial probability, for odds up to 200 points apart."""
    ranks = [rank(votes(*[("a", "b", "a")] * won, *[("a", "b", "b")] * (count - won))) for won in range(count + 1)]
    found = [next(one for one in both if one.name == "a") for both in ranks]
    for gap in (0, 100, 200):
        p = 1 / (1 + 10 ** (-gap / 400))
        chances = [math.comb(count, won) * p**won * (1 - p) ** (count - won) for won in range(count + 1)]
        held = [abs(one.points - gap / 2) <= one.error_points for one in found]
        assert sum(c for c, inside in zip(chances, held, strict=True) if inside) > 0.94

"""The blind test's handlers as functions, on tiny random weights."""

import csv
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from gendrpix.image.write import save_png
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.results import Results
from gendrpix.ui.tabs.blind_test import BlindTab, unnamed
from tests.helpers.comparing import empty_results
from tests.helpers.models import save_tiny_family


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> BlindTab:
    with gr.Blocks():
        return BlindTab(Engine(str(save_tiny_family(tmp_path_factory.mktemp("weights")))), gr.State(None))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A comparison of two restorers: one result is white, the other black."""
    made = empty_results(tmp_path / "photo.png", "holiday.png")
    for label in ("White", "Black"):
        image = Image.new("RGB", (32, 24), label.lower())
        made.files[label] = save_png(image, tmp_path / f"{label}.png", metadata={"gendrpix": label})
    return made


def test_votes_make_a_ranking(tab: BlindTab, results: Results) -> None:
    views = tab.show_pair(None, results)
    poll = views[tab.poll]
    assert views[tab.status] == "Results of holiday.png. 0 votes." and views[tab.voting]["visible"]
    for _ in range(6):
        first = np.asarray(views[tab.first]["value"]).mean()
        views = tab.vote(poll, results, 0 if first > 128 else 1)  # always the white one
        told = views[tab.status]
        assert told.startswith(
            "A was **White**, B was **Black**" if first > 128 else "A was **Black**, B was **White**"
        )
    table = views[tab.table].splitlines()
    assert table[2].startswith("| White |") and table[3].startswith("| Black |") and "| 6 | 0 | 0 |" in table[2]
    with open(views[tab.ranking_file]["value"]) as file:
        assert [line["name"] for line in csv.DictReader(file)] == ["White", "Black"]
    with open(views[tab.votes_file]["value"]) as file:
        votes = list(csv.DictReader(file))
    assert len(votes) == 6 and {vote["winner"] for vote in votes} == {"White"} and votes[0]["picture"] == "holiday.png"
    assert "| 6 | 0 | 1 |" in tab.vote(poll, results, None)[tab.table]


def test_pictures_do_not_tell_their_names(results: Results) -> None:
    shown = unnamed(results.files["White"])
    assert shown.info == {} and getattr(shown, "filename", "") == "" and shown.size == (32, 24)
    clear = unnamed(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert clear.mode == "RGB" and clear.getpixel((0, 0)) == (255, 255, 255)


def test_without_a_comparison_a_bundled_photo_is_restored_once(tab: BlindTab, monkeypatch) -> None:
    runs = []
    whole = tab.engine.restore
    monkeypatch.setattr(tab.engine, "restore", lambda job, *a: (runs.append(job.names), whole(job, *a))[1])
    poll = tab.show_pair(None, None)[tab.poll]
    assert set(poll.entries.pictures) == set(CHOICE_LABELS.values()) and len(runs) == 4
    views = tab.vote(poll, None, 1)
    assert len(runs) == 4 and "1 vote so far" in views[tab.status]
    assert views[tab.first]["value"].size == (512, 512)


def test_a_new_comparison_is_taken_up(tab: BlindTab, results: Results) -> None:
    poll = tab.show_pair(None, results)[tab.poll]
    results.photo_name = "other.png"
    tab.vote(poll, results, 0)
    assert poll.votes[0].picture == "holiday.png" and poll.entries.photo == "other.png"


def test_a_vote_without_a_pair_is_refused(tab: BlindTab) -> None:
    with pytest.raises(gr.Error, match="no pair to vote on"):
        tab.vote(None, None, 0)

"""The blind test: two unnamed results of one photo, a vote, and the ranking that follows from all votes."""

from __future__ import annotations

import math
import random
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.report.tables import DASH
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import COMPUTE, Engine
from gendrpix.ui.engine.request import Job
from gendrpix.ui.engine.results import Results
from gendrpix.ui.widgets.errors import user_errors
from gendrpix.ui.widgets.inputs import drawn_picture, example_photos

if TYPE_CHECKING:
    from PIL.Image import Image

    from gendrpix.comparison.ranking import Rank, Vote

INTRO = (
    "Which picture would you rather have? Two results of the same photo are shown without their names; after your vote "
    "they are told, and the next two come. Pairs are those of your last comparison, or of a bundled photo if there is "
    "none. Every pair comes up equally often, the left and the right by chance."
)
EXAMPLE, EXAMPLE_SCALE = "cat", 4.0
FIRST, SECOND, NEITHER = "A is better", "B is better", "No difference"
RANKING_LINE = (
    "Points are those of the Bradley-Terry model, as in chess: 400 more are odds of 10 to 1. ± is the 95% interval; "
    "with few votes it is wide, and then the order means little. Below 5 votes there is none (–)."
)
Updates = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Entries:
    """What is voted on: pictures of one photo by label."""

    photo: str
    pictures: Mapping[str, Path | Image]


@dataclass(kw_only=True)
class Poll:
    """One visitor's votes, and the pair that is shown."""

    votes: list[Vote] = field(default_factory=list)
    entries: Entries | None = None
    pair: tuple[str, str] | None = None
    example: Entries | None = None
    """The bundled photo's results, once they were made."""
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gendrpix-votes-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, ranks: Sequence[Rank]) -> tuple[Path, Path]:
        """The ranking and the votes as files."""
        from gendrpix.comparison.ranking import ranking_csv, votes_csv

        files = {self.folder / "ranking.csv": ranking_csv(ranks), self.folder / "votes.csv": votes_csv(self.votes)}
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        ranking, votes = files
        return ranking, votes


class BlindTab:
    """Widgets, wiring and handlers."""

    def __init__(self, engine: Engine, comparison: gr.State) -> None:
        """`comparison`: the session's `Results`, or None as long as nothing was compared."""
        self.engine = engine
        self.poll = gr.State(None)
        gr.Markdown(INTRO, elem_classes="intro")
        self.start = gr.Button("Show a pair", variant="primary", elem_id="blind-start")
        self.status = gr.Markdown("", elem_classes="hint", elem_id="blind-status", min_height=24)
        with gr.Row(elem_id="blind-pair"):
            self.first = self._picture("A", "blind-first")
            self.second = self._picture("B", "blind-second")
        with gr.Row(visible=False) as self.voting:
            self.buttons = [
                gr.Button(label, min_width=100, elem_id=f"blind-{name}")
                for label, name in ((FIRST, "a"), (NEITHER, "none"), (SECOND, "b"))
            ]
        with gr.Column(visible=False) as self.ranked:
            self.table = gr.Markdown("", elem_id="blind-ranking", elem_classes="scores")
            gr.Markdown(RANKING_LINE, elem_classes="hint")
            with gr.Row():
                self.ranking_file = gr.DownloadButton("Ranking as CSV", size="md", elem_id="blind-ranking-csv")
                self.votes_file = gr.DownloadButton("Votes as CSV", size="md", elem_id="blind-votes-csv")
        self._wire(comparison)

    def _picture(self, name: str, elem_id: str) -> gr.Image:
        return drawn_picture(name, f"Result {name}, unnamed", elem_id, show_label=True, min_width=150)

    def _wire(self, comparison: gr.State) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        pictures = [self.poll, self.start, self.status, self.first, self.second, self.voting]
        views = [*pictures, self.ranked, self.table, self.ranking_file, self.votes_file]
        self.start.click(
            lambda: (gr.update(interactive=False), "Preparing the pictures."),
            None,
            [self.start, self.status],
            queue=False,
            **private,
        ).then(
            self.show_pair,
            [self.poll, comparison],
            pictures,
            concurrency_id=COMPUTE,
            concurrency_limit=1,
            **private,
        ).failure(lambda: (gr.update(interactive=True), ""), None, [self.start, self.status], **private)
        for button, answer in zip(self.buttons, (0, None, 1), strict=True):
            button.click(
                lambda poll, results, answer=answer: self.vote(poll, results, answer),
                [self.poll, comparison],
                views,
                trigger_mode="once",
                **private,
            )

    # Handlers ------------------------------------------------------------------------------------------------------

    def show_pair(self, poll: Poll | None, results: Results | None) -> Updates:
        """The next two pictures; makes the bundled photo's results where the session has no comparison."""
        with user_errors():
            poll = poll or Poll()
            poll.entries = self._entries(poll, results)
            return {
                **self._pair(poll),
                self.status: f"Results of {poll.entries.photo}. {count(len(poll.votes), 'vote')}.",
            }

    def vote(self, poll: Poll | None, results: Results | None, answer: int | None) -> Updates:
        """Take the vote (0: the first, 1: the second, None: neither), tell the names, show the next two."""
        from gendrpix.comparison.ranking import Vote

        with user_errors():
            if poll is None or poll.pair is None or poll.entries is None:
                raise ValueError("There is no pair to vote on yet. Press Show a pair.")
            first, second = poll.pair
            winner = None if answer is None else poll.pair[answer]
            poll.votes.append(Vote(first=first, second=second, winner=winner, picture=poll.entries.photo))
            told = f"A was **{plain(first)}**, B was **{plain(second)}**. {count(len(poll.votes), 'vote')} so far."
            poll.entries = self._entries(poll, results)
            return {**self._pair(poll), self.status: told, **self._ranking(poll)}

    def _entries(self, poll: Poll, results: Results | None) -> Entries:
        """The session's comparison where it has two pictures or more, else the bundled photo's results."""
        if results is not None and len(results.files) > 1:
            return Entries(photo=results.photo_name, pictures=dict(results.files))
        if poll.example is None:
            poll.example = self._restore_example()
        return poll.example

    def _restore_example(self) -> Entries:
        """All restorers' results of the bundled photo, neither timed nor scored."""
        from gendrpix.image.read import open_picture
        from gendrpix.settings.restoration import CompareSettings

        path = next(path for path in example_photos() if path.stem == EXAMPLE)
        picture = open_picture(path)
        stop = CancelToken()
        made: dict[str, Image] = {}
        for name, label in CHOICE_LABELS.items():
            job = Job(picture=picture, names=(name,), settings=CompareSettings(scale=EXAMPLE_SCALE))
            made[label] = self.engine.restore(job, stop).image
        return Entries(photo=path.name, pictures=made)

    def _pair(self, poll: Poll) -> Updates:
        from gendrpix.comparison.ranking import next_pair

        assert poll.entries is not None
        seen = [vote for vote in poll.votes if vote.picture == poll.entries.photo]
        poll.pair = next_pair(list(poll.entries.pictures), seen, poll.rng)
        first, second = (unnamed(poll.entries.pictures[label]) for label in poll.pair)
        return {
            self.poll: poll,
            self.start: gr.update(interactive=True, visible=False),
            self.first: gr.update(value=first, visible=True),
            self.second: gr.update(value=second, visible=True),
            self.voting: gr.update(visible=True),
        }

    def _ranking(self, poll: Poll) -> Updates:
        from gendrpix.comparison.ranking import rank

        ranks = rank(poll.votes)
        ranking, votes = poll.write(ranks)
        return {
            self.ranked: gr.update(visible=True),
            self.table: ranking_table(ranks),
            self.ranking_file: gr.update(value=str(ranking)),
            self.votes_file: gr.update(value=str(votes)),
        }


def format_points(one: Rank) -> str:
    """ "+120 ± 80"; a dash where there is no interval, and no sign before 0."""
    rounded = round(one.points)
    points = f"{rounded:+d}" if rounded else "0"
    return f"{points} ± {DASH if math.isnan(one.error_points) else round(one.error_points)}"


def ranking_table(ranks: Sequence[Rank]) -> str:
    """The ranking as Markdown."""
    from gendrpix.report.tables import Table

    rows = tuple(
        (
            one.name,
            format_points(one),
            str(one.wins),
            str(one.losses),
            str(one.ties),
        )
        for one in ranks
    )
    return Table(header=("Restorer", "Points", "Won", "Lost", "No difference"), rows=rows).to_markdown()


def unnamed(picture: Path | Image) -> Image:
    """The pixels alone: neither the file's name nor its metadata tell who made it. Transparent parts are white."""
    from PIL import Image

    opened = Image.open(picture) if isinstance(picture, Path) else picture
    image = opened.convert("RGBA") if opened.has_transparency_data else opened.convert("RGB")
    sheet = Image.new("RGB", image.size, "#ffffff")
    sheet.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return sheet


def plain(label: str) -> str:
    """A label within Markdown."""
    return label.replace("*", "\\*")


def count(number: int, word: str) -> str:
    """ "1 vote", "2 votes"."""
    return f"{number} {word}{'s' * (number != 1)}"

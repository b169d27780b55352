"""Comparisons: which restorers run, in which order, what a record holds, and the tables made of them."""

import csv
import json
import threading
from pathlib import Path

import PIL.Image
import pytest
import torch

from gendrpix.comparison.comparison import Record, compare, input_record
from gendrpix.comparison.report import to_json, to_table, write_csv, write_json
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.metrics.profiling import Peak
from gendrpix.metrics.registry import METRICS
from gendrpix.metrics.scorer import Scorer, Scores
from gendrpix.report.tables import format_bytes, format_seconds
from gendrpix.restore.cache import RestorerCache
from gendrpix.restore.guidance import mix
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.settings.restoration import CompareSettings, order_choices
from gendrpix.specs import CHOICE_LABELS, UNGUIDED, restorer_of
from tests.helpers.models import save_tiny_family, tiny_pipeline
from tests.helpers.pictures import photo

ALL = tuple(CHOICE_LABELS)
FAST = CompareSettings(scale=2, warmup=0)
SCORER = Scorer(("psnr", "piqe", "grid"))


class Shelf:
    """Tiny pipelines by choice; counts how often each runs."""

    def __init__(self) -> None:
        self.pipelines = {name: tiny_pipeline(name) for name in ALL if name != UNGUIDED}
        self.runs: list[str] = []
        for name, pipeline in self.pipelines.items():
            pipeline.prepare = self.counted(name, pipeline.prepare)

    def counted(self, name: str, prepare):
        def run(picture: Picture, scale: float) -> torch.Tensor:
            self.runs.append(name)
            return prepare(picture, scale)

        return run

    def __call__(self, choice: str) -> RestorerPipeline:
        return self.pipelines[restorer_of(choice)]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def picture() -> Picture:
    return open_picture(photo(40, 35))


def test_each_record_is_what_its_restorer_gives(shelf: Shelf, picture: Picture) -> None:
    settings = CompareSettings(scale=2, guidance=1.7, pos_pad=(1, 6), neg_pad=(2, 2), warmup=0)
    records = {record.name: record for record in compare(picture, ALL, settings, shelf, SCORER)}
    assert tuple(records) == ALL
    for name, record in records.items():
        guidance = 1.7 if name == "gendr-pix" else None
        expected = shelf(name)(picture, scale=2, guidance=guidance, pos_pad=(1, 6), neg_pad=(2, 2)).images[0]
        assert record.image.tobytes() == expected.tobytes()
        assert record.size == (80, 70)
        assert record.label == CHOICE_LABELS[name]
        assert (record.device.split()[0], record.dtype) == ("cpu", "float32")
        assert record.seconds > 0 and len(record.all_seconds) == 1
        assert record.peak.bytes >= 0 and "resident set above the start" in record.peak.method
        assert record.settings is settings


def test_a_guided_record_lets_omega_move(shelf: Shelf, picture: Picture) -> None:
    (record,) = compare(picture, ["gendr-pix"], FAST, shelf, SCORER)
    moved = mix(record.branches, 2.5).clamp(-1, 1)
    settings = CompareSettings(scale=2, guidance=2.5, warmup=0)
    (asked,) = compare(picture, ["gendr-pix"], settings, shelf, SCORER)
    assert (moved - asked.pixels).abs().max() < 1e-5
    (star,) = compare(picture, [UNGUIDED], FAST, shelf, SCORER)
    assert star.branches is None


def test_plain_cfg_reaches_the_pipeline(shelf: Shelf, picture: Picture) -> None:
    (padded,) = compare(picture, ["gendr-pix"], FAST, shelf, SCORER)
    (plain,) = compare(picture, ["gendr-pix"], CompareSettings(scale=2, plain_cfg=True, warmup=0), shelf, SCORER)
    assert (padded.pixels - plain.pixels).abs().mean() > 1e-3


def test_records_come_one_by_one(shelf: Shelf, picture: Picture) -> None:
    shelf.runs.clear()
    records = compare(picture, ["gendr-pix*", "gendr"], FAST, shelf, SCORER)
    assert shelf.runs == []
    assert next(records).name == "gendr" and shelf.runs == ["gendr"]
    assert next(records).name == UNGUIDED and shelf.runs == ["gendr", "gendr-pix"]


def test_warm_up_and_repeats_run_as_often_as_they_say(shelf: Shelf, picture: Picture) -> None:
    shelf.runs.clear()
    settings = CompareSettings(scale=1, warmup=2, repeats=3)
    (record,) = compare(picture, ["gendr-adc"], settings, shelf, SCORER)
    assert shelf.runs == ["gendr-adc"] * 5
    assert len(record.all_seconds) == 3
    assert record.seconds == sorted(record.all_seconds)[1]


def test_speed_is_relative_to_gendr_where_it_ran(shelf: Shelf, picture: Picture) -> None:
    gendr, pix = compare(picture, ["gendr-pix", "gendr"], FAST, shelf, SCORER)
    assert gendr.ratio == 1
    assert pix.ratio == pytest.approx(gendr.seconds / pix.seconds)
    (alone,) = compare(picture, ["gendr-pix"], FAST, shelf, SCORER)
    assert alone.ratio is None


def test_the_metrics_are_those_of_the_saved_picture(shelf: Shelf, picture: Picture) -> None:
    truth = open_picture(photo(80, 70))
    (record,) = compare(picture, ["gendr-adc"], FAST, shelf, SCORER, truth)
    saved = open_picture(record.image).color
    assert record.scores == SCORER.score(saved, truth.color)
    assert set(record.scores.values) == {"psnr", "piqe", "grid"}
    (without,) = compare(picture, ["gendr-adc"], FAST, shelf, SCORER)
    assert set(without.scores.values) == {"piqe", "grid"}


def test_the_alpha_is_kept(shelf: Shelf) -> None:
    image = photo(40, 35).convert("RGBA")
    image.putalpha(PIL.Image.new("L", image.size, 77))
    picture = open_picture(image)
    for record in (input_record(picture, FAST, SCORER), *compare(picture, ["gendr"], FAST, shelf, SCORER)):
        assert record.image.mode == "RGBA"
        assert record.image.getchannel("A").getextrema() == (77, 77)


def test_the_input_is_the_line_to_read_the_others_against(picture: Picture) -> None:
    record = input_record(picture, FAST, SCORER, open_picture(photo(80, 70)))
    assert (record.name, record.size, record.seconds, record.ratio, record.peak) == (
        "input",
        (80, 70),
        None,
        None,
        None,
    )
    assert record.scores.values["psnr"] > 25


@pytest.mark.parametrize("guidance", [None, 1.0])
def test_choices_are_ordered_and_none_runs_twice(guidance: float | None) -> None:
    settings = CompareSettings(guidance=guidance)
    expected = ("gendr", "gendr-pix", "gendr-pix*") if guidance else ("gendr", "gendr-pix*")
    assert order_choices(["gendr-pix*", "gendr-pix", "gendr", "gendr"], settings) == expected


def test_what_cannot_be_done_is_refused_before_anything_runs(shelf: Shelf, picture: Picture) -> None:
    shelf.runs.clear()
    for choices in (["gendr-max"], []):
        with pytest.raises(ValueError, match="some of gendr, gendr-adc"):
            compare(picture, choices, FAST, shelf, SCORER)
    with pytest.raises(ValueError, match=r"truth has 40 x 35 pixels and the result 80 x 70"):
        compare(picture, ALL, FAST, shelf, SCORER, truth=picture)
    huge = Picture(color=torch.zeros(1, 3, 1, 1).expand(1, 3, 9000, 9000))
    with pytest.raises(ValueError, match="choose a smaller scale"):
        compare(huge, ALL, CompareSettings(scale=8), shelf, SCORER)
    assert shelf.runs == []


BAD_SETTINGS = [
    {"scale": 0.9},
    {"scale": float("nan")},
    {"guidance": float("inf")},
    {"pos_pad": (0, 8)},
    {"neg_pad": (-1, 0)},
    {"warmup": -1},
    {"repeats": 0},
]


@pytest.mark.parametrize("options", BAD_SETTINGS)
def test_settings_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"expected|0 to 7"):
        CompareSettings(**options)


def test_the_cache_loads_each_pipeline_once_for_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gendrpix.restore import cache as module

    loads: list[str] = []
    original = module.load_restorer
    monkeypatch.setattr(
        module, "load_restorer", lambda name, *args, **options: loads.append(name) or original(name, *args, **options)
    )
    cache = RestorerCache(save_tiny_family(tmp_path, names=("gendr-pix",)), dtype=torch.bfloat16)
    got: list[RestorerPipeline] = []
    threads = [
        threading.Thread(target=lambda choice=choice: got.append(cache(choice)))
        for choice in ("gendr-pix", UNGUIDED) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["gendr-pix"]
    assert len({id(pipeline) for pipeline in got}) == 1 and len(got) == 4
    assert got[0].unet.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="no weights of gendr"):
        cache("gendr")


# Tables ----------------------------------------------------------------------------------------------------------


def made_record(name: str, seconds: float | None, **options: object) -> Record:
    return Record(
        name=name,
        label=CHOICE_LABELS.get(name, "Input (bicubic)"),
        image=PIL.Image.new("RGB", (8, 4)),
        pixels=torch.zeros(1, 3, 4, 8),
        seconds=seconds,
        settings=FAST,
        **options,
    )


@pytest.fixture
def records() -> list[Record]:
    why = "MUSIQ is not available: its weights could not be downloaded (timed out)."
    measured = {"device": "cpu (2 threads)", "dtype": "float32"}
    return [
        made_record("input", None, scores=Scores(values={"piqe": 80.0}, missing={"musiq": why})),
        made_record(
            "gendr",
            2.0,
            ratio=1.0,
            peak=Peak(bytes=1_500_000_000, method="how"),
            scores=Scores(values={"piqe": 30.123}, missing={"musiq": why}),
            **measured,
        ),
        made_record(
            UNGUIDED,
            0.25,
            ratio=8.0,
            peak=Peak(bytes=60_000_000, method="how"),
            scores=Scores(missing={"musiq": why}),
            **measured,
        ),
    ]


def test_the_table_shows_what_was_measured_and_says_what_was_not(records: list[Record]) -> None:
    table = to_table(records)
    assert table.header == ("Restorer", "Time", "Speed", "Peak memory", "PIQE ↓", "Device")
    assert table.rows == (
        ("Input (bicubic)", "–", "–", "–", "80.00", "–"),
        ("GenDR", "2.00 s", "1.00×", "1.50 GB", "30.12", "cpu (2 threads), float32"),
        ("GenDR-Pix*", "250 ms", "8.00×", "60 MB", "–", "cpu (2 threads), float32"),
    )
    assert table.notes == (
        "MUSIQ is not available: its weights could not be downloaded (timed out).",
        METRICS["piqe"].caution,
        "Speed is relative to GenDR in the same run.",
        "Peak memory: how.",
    )


def test_text_is_aligned_and_markdown_is_a_table(records: list[Record]) -> None:
    table = to_table(records)
    lines = table.to_text().splitlines()
    times = ("Time", "–", "2.00 s", "250 ms")
    ends = {line.index(cell) + len(cell) for line, cell in zip(lines[:4], times, strict=True)}
    assert len(ends) == 1
    assert lines[4] == "" and lines[5].startswith("MUSIQ is not available")
    markdown = table.to_markdown().splitlines()
    assert len(markdown) == 5
    assert all(line.count("|") == 7 for line in markdown)
    assert r"GenDR-Pix\*" in markdown[4]


def test_csv_and_json_hold_the_unrounded_figures(records: list[Record], tmp_path: Path) -> None:
    write_csv(records, tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["restorer"] for row in rows] == ["input", "gendr", "gendr-pix*"]
    assert (rows[1]["seconds"], rows[1]["piqe"], rows[1]["musiq"], rows[1]["scale"]) == ("2.0", "30.123", "", "2")
    write_json(records, tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document == json.loads(to_json(records))
    assert document["records"][2]["speed_relative_to_gendr"] == 8.0
    assert "timed out" in document["records"][2]["missing_scores"]["musiq"]


def test_lpips_is_shown_with_its_trunk() -> None:
    scores = Scores(values={"lpips": 0.25}, lpips_net="squeeze")
    assert "LPIPS (SqueezeNet) ↓" in to_table([made_record("gendr", 1.0, scores=scores)]).header


def test_no_records_make_no_table() -> None:
    with pytest.raises(ValueError, match="no records"):
        to_table([])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_seconds(0.00871), "8.71 ms"),
        (format_seconds(0.9996), "1.00 s"),
        (format_seconds(12.34), "12.3 s"),
        (format_seconds(9.996), "10.0 s"),
        (format_bytes(999_600_000), "1.00 GB"),
        (format_bytes(1_400_000), "1 MB"),
    ],
)
def test_figures_are_short(text: str, expected: str) -> None:
    assert text == expected

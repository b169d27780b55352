"""The batch tab's handlers as functions, on tiny random weights: files and zips in, a zip out."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image

from gendrpix import open_picture
from gendrpix.__main__ import main
from gendrpix.image.picture import Limits
from gendrpix.settings.recipe import KEYWORD
from gendrpix.ui.engine.cancel import CancelToken, StoppedError, TimeLimitError
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.runs.batch import Batch, without_formula
from gendrpix.ui.tabs.batch import BY_SCALE, BY_SIZE, BatchTab, as_settings
from gendrpix.ui.widgets.checks import progress_line
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import encoded, photo

SETTINGS = ("gendr-pix", 1.5, BY_SCALE, 2.0, 2048, "none", False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def engine(weights: Path) -> Engine:
    return Engine(str(weights))


@pytest.fixture(scope="module")
def tab(engine: Engine) -> BatchTab:
    with gr.Blocks():
        return BatchTab(engine)


@pytest.fixture
def uploads(tmp_path: Path) -> list[dict]:
    """A picture, a broken one, and a zip of one more and a text."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    files = {"cat.png": encoded(photo(20, 16)), "torn.png": b"no picture", "x.txt": b"notes"}
    with zipfile.ZipFile(folder / "trip.zip", "w") as archive:
        archive.writestr("../../day 1/=dog.png", encoded(photo(16, 24)))
        archive.writestr("readme.txt", b"")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    names = {"cat.png": "cat.png", "torn.png": "day 2/torn.png", "trip.zip": "trip.zip", "x.txt": "x.txt"}
    return [{"path": str(folder / name), "orig_name": shown} for name, shown in names.items()]


def last(steps: Iterator[dict]) -> dict:
    merged: dict = {}
    for step in steps:
        merged.update(step)
    return merged


def inside(tab: BatchTab, views: dict) -> dict[str, bytes]:
    """The zip file's contents; its folder goes when `views` does, which hold the batch."""
    with zipfile.ZipFile(views[tab.download]["value"]) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_files_and_a_zip_become_one_zip(tab: BatchTab, uploads: list[dict]) -> None:
    views = last(tab.run_batch(uploads, None, *SETTINGS))
    assert views[tab.status] == "2 of 3 pictures restored, 1 failed (the table says why). 2 other files left out."
    files = inside(tab, views)
    results = ["results/cat.png", "results/day 1/=dog.png"]
    assert set(files) == {"report.csv", *results, *(r.replace("results", "thumbnails")[:-3] + "jpg" for r in results)}
    with Image.open(io.BytesIO(files["results/cat.png"])) as image:
        assert image.size == (40, 32)
    with Image.open(io.BytesIO(files["thumbnails/cat.jpg"])) as image:
        assert image.format == "JPEG" and max(image.size) <= 256
    lines = {line["file"]: line for line in csv.DictReader(io.StringIO(files["report.csv"].decode()))}
    assert lines["cat.png"]["status"] == "restored" and lines["cat.png"]["result"] == "results/cat.png"
    assert "'torn.png' is not a picture" in lines["day 2/torn.png"]["reason"]
    assert str(tab.batch) not in files["report.csv"].decode() and "/tmp" not in files["report.csv"].decode()
    rows = {row[0]: row for row in views[tab.table]["value"]}
    assert rows["cat.png"][1:3] == ["done", "40 × 32"] and rows["day 2/torn.png"][1] == "failed"
    assert [name for _, name in views[tab.previews]["value"]] == ["cat.png", "day 1/=dog.png"]
    assert views[tab.buttons.run]["interactive"] and not views[tab.buttons.cancel]["interactive"]


def test_the_command_line_makes_the_same_pixels_and_recipe(
    tab: BatchTab, uploads: list[dict], weights: Path, tmp_path: Path
) -> None:
    files = inside(tab, last(tab.run_batch(uploads[:1], None, *SETTINGS)))
    command = ["restore", uploads[0]["path"], "-o", str(tmp_path / "out"), "--scale", "2", "--guidance", "1.5"]
    assert main([*command, "--weights", str(weights), "--device", "cpu"]) == 0
    (tmp_path / "page.png").write_bytes(files["results/cat.png"])
    ours, theirs = (Image.open(path) for path in (tmp_path / "page.png", tmp_path / "out" / "cat.png"))
    assert json.loads(ours.info[KEYWORD]) == json.loads(theirs.info[KEYWORD])
    colors = [open_picture(path).color for path in (tmp_path / "page.png", tmp_path / "out" / "cat.png")]
    assert torch.equal(*colors)


def test_cancel_keeps_what_is_ready_and_goes_on(tab: BatchTab, uploads: list[dict], monkeypatch) -> None:
    pipeline = tab.engine.pipeline("gendr-pix")
    runs: list[int] = []
    whole = type(pipeline).restore_guided
    monkeypatch.setattr(
        type(pipeline), "restore_guided", lambda self, *a, **k: (runs.append(1), whole(self, *a, **k))[1]
    )
    many = [{"path": uploads[0]["path"], "orig_name": f"{number}.png"} for number in range(5)]
    settings, stop = as_settings(*SETTINGS), CancelToken()
    batch = Batch(many)
    stream = batch.restore(tab.engine, settings, stop)
    next(stream)
    tab.buttons.press_cancel(stop)
    with pytest.raises(StoppedError):
        list(stream)
    done, views = len(batch.done), tab.ended(batch, "Cancelled.")
    assert 1 <= done < 5 and views[tab.buttons.run]["value"] == "Go on" and "Cancelled." in views[tab.status]
    assert views[tab.download]["visible"]
    before = len(runs)
    finished = last(tab.run_batch(many, batch, *SETTINGS))
    assert len(runs) - before == 5 - done  # the finished ones were not computed again
    assert "5 of 5 pictures restored." in finished[tab.status]
    report = inside(tab, finished)["report.csv"].decode()
    assert report.count(",restored,") == 5  # what was said when they were made


def test_other_settings_or_files_begin_anew(tab: BatchTab, uploads: list[dict]) -> None:
    views = last(tab.run_batch(uploads[:1], None, *SETTINGS))
    again = last(
        tab.run_batch(uploads[:1], views[tab.batch], "gendr-pix*", *SETTINGS[1:2], BY_SIZE, 2.0, 60, "none", True)
    )
    assert again[tab.batch] is views[tab.batch]
    files = inside(tab, again)
    with Image.open(io.BytesIO(files["results/cat.png"])) as image:
        assert image.size == (60, 48)
    assert files["results/cat.png"][24] == 16  # bits a channel
    other = last(tab.run_batch(uploads[2:3], again[tab.batch], *SETTINGS))
    assert other[tab.batch] is not again[tab.batch] and "1 of 1" in other[tab.status]


def test_same_names_do_not_collide(tab: BatchTab, uploads: list[dict]) -> None:
    twins = [{**uploads[0], "orig_name": "cat.png"}, {**uploads[0], "orig_name": "cat.jpg"}]
    files = inside(tab, last(tab.run_batch(twins, None, *SETTINGS)))
    assert {"results/cat.png", "results/cat (2).png"} <= set(files)


def test_refusals_are_sentences(tab: BatchTab, uploads: list[dict], tmp_path: Path, monkeypatch) -> None:
    for files, said in (
        (None, "no pictures yet"),
        ([uploads[3]], "no pictures among these files"),
        ([{"path": str(tmp_path / "a.zip"), "orig_name": "a.zip"}], "damaged"),
    ):
        (tmp_path / "a.zip").write_bytes(b"PK")
        with pytest.raises(gr.Error, match=said):
            list(tab.run_batch(files, None, *SETTINGS))
    monkeypatch.setattr("gendrpix.ui.runs.batch.MAX_PICTURES", 1)
    with pytest.raises(gr.Error, match="1 are accepted at once"):
        list(tab.run_batch([uploads[0], uploads[1]], None, *SETTINGS))
    with pytest.raises(gr.Error, match="A number is missing"):
        list(tab.run_batch(uploads, None, "gendr-pix", 1.5, BY_SIZE, 2.0, None, "none", False))


def test_a_folder_gives_its_pictures(tab: BatchTab, uploads: list[dict]) -> None:
    inside, said, _ = tab.take_folder(uploads[:1], uploads)
    assert [file["orig_name"] for file in inside] == ["cat.png", "day 2/torn.png", "trip.zip"]
    assert said == "4 files chosen."
    with pytest.raises(gr.Error, match="no pictures"):
        tab.take_folder(None, uploads[3:])
    assert tab.say_files(None, [])[0] == "Choose pictures to begin."


def test_small_things(tab: BatchTab, uploads: list[dict]) -> None:
    assert progress_line(3, 12, "pictures", 6.0) == "3 of 12 pictures, about 18 s left."
    assert progress_line(41, 100, "pictures", 6.0, done_before=40) == "41 of 100 pictures, about 6 min left."
    assert progress_line(40, 100, "pictures", 0.0, done_before=40) == "40 of 100 pictures."
    assert tab.ended(None, "Cancelled.")[tab.status] == "Cancelled."
    views = last(tab.run_batch([{**uploads[0], "orig_name": "=cat.png"}], None, *SETTINGS))
    [outcome] = views[tab.batch].listed()
    assert without_formula(outcome).task.source == Path("'=cat.png")


def test_the_servers_limits_and_time_hold(tab: BatchTab, uploads: list[dict], monkeypatch) -> None:
    monkeypatch.setattr(Engine, "limits", Limits(max_output_pixels=2000, max_pixels=350))
    big = {"path": uploads[0]["path"], "orig_name": "big.png"}  # 20 x 16, to 40 x 32
    rows = last(tab.run_batch([big], None, *SETTINGS))[tab.table]["value"]
    assert rows[0][1] == "done"
    rows = last(tab.run_batch([big], None, *SETTINGS[:3], 4.0, *SETTINGS[4:]))[tab.table]["value"]
    assert rows[0][1] == "failed" and "2000" in rows[0][2].replace(",", "")
    rows = last(tab.run_batch([uploads[2]], None, *SETTINGS))[tab.table]["value"]  # 16 x 24 in the zip
    assert rows[0][1] == "failed"
    settings, stop, batch = as_settings(*SETTINGS), CancelToken(), Batch(uploads[:1])
    stop._deadline = 0.0
    with pytest.raises(TimeLimitError, match="longer than the limit"):
        list(batch.restore(tab.engine, settings, stop))
    views = tab.ended(batch, "Stopped.")
    assert views[tab.buttons.run]["value"] == "Go on" and views[tab.status].startswith("Stopped. 0 of 1")

"""Many pictures: overlapped, grouped, resumed, shared between processes; each done once and none half."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import torch

from gendrpix.__main__ import main
from gendrpix.image.picture import Picture
from gendrpix.image.png import PngStream, write_chunk
from gendrpix.image.read import open_picture
from gendrpix.jobs.batch import Calls, batch_by_size, prefetch, restore_files
from gendrpix.jobs.planning import Place
from gendrpix.jobs.planning import plan_tasks as plan
from gendrpix.jobs.processes import ProcessGroup
from gendrpix.jobs.reports import COLUMNS, check_report
from gendrpix.jobs.tasks import Outcome, Task, Times
from gendrpix.settings.recipe import read_entry
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.weights.verify import digest_weights
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import encoded, photo

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {"restorer": "double", "scale": 2.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("tiny"), names=("gendr-pix",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos of two sizes, in two folders."""
    for number, (width, height) in enumerate([(20, 16), (18, 12), (20, 16), (18, 12), (20, 16), (24, 24)]):
        place = tmp_path / "in" / ("" if number < 4 else "deep/er")
        place.mkdir(parents=True, exist_ok=True)
        photo(width, height).rotate(number).save(place / f"{number}.png")
    return tmp_path / "in"


def plan_tasks(inputs: Sequence[Path], output: Path) -> list[Task]:
    return plan(inputs, Place(folder=output)).tasks


def double(pictures: Sequence[Picture]) -> list[torch.Tensor]:
    assert len({picture.color.shape for picture in pictures}) == 1
    return [picture.color.repeat_interleave(2, -1).repeat_interleave(2, -2) for picture in pictures]


def job(
    tasks: Sequence[Task], restore: Callable = double, recipe: dict = RECIPE, **options: object
) -> tuple[list[Outcome], Times]:
    done: list[Outcome] = []

    def named(input_sha256: str) -> dict:
        return {**recipe, "input_sha256": input_sha256}

    times = restore_files(tasks, lambda: Calls(restore), RestoreSettings(), named, done.append, **options)
    return done, times


def statuses(done: Sequence[Outcome]) -> dict[str, str]:
    return {one.task.source.name: one.status for one in done}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("size", "longer", "expected"), [((100, 50), 200, 2.0), ((30, 90), 720, 8.0), ((7, 9), 9, 1)])
def test_scale_for_a_longer_side(size: tuple[int, int], longer: int, expected: float) -> None:
    assert RestoreSettings(size_px=longer).scale_for(*size) == expected
    assert RestoreSettings(scale=3).scale_for(*size) == 3.0 and RestoreSettings().scale_for(*size) == 4.0


# The line of work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"batch": 2}, {"batch": 5, "workers": 3}, {"overlap": False}])
def test_every_picture_is_restored_whatever_the_options(folder: Path, tmp_path: Path, options: dict) -> None:
    done, times = job(plan_tasks([folder], tmp_path / "out"), **options)
    assert len(done) == 6 and set(statuses(done).values()) == {"restored"}
    assert 0 < times.model_s <= times.wall_s and 0 < times.share <= 1
    for one in done:
        with PIL.Image.open(one.task.source) as source, PIL.Image.open(one.task.target) as result:
            expected = np.asarray(source).repeat(2, 0).repeat(2, 1)
            assert np.array_equal(np.asarray(result), expected)
            assert one.size == source.size and one.result_size == result.size


def test_the_next_picture_is_read_and_the_last_written_while_the_model_computes(folder: Path, tmp_path: Path) -> None:
    tasks = plan_tasks([folder], tmp_path / "out")
    seen: list[bool] = []

    def restore(pictures: Sequence[Picture]) -> list[torch.Tensor]:
        number = len(seen)
        deadline = time.monotonic() + 20
        while number and not tasks[number - 1].target.exists() and time.monotonic() < deadline:
            time.sleep(0.005)  # the model is busy until its last result lies on the disk
        seen.append(number == 0 or tasks[number - 1].target.exists())
        return double(pictures)

    job(tasks, restore)
    assert seen == [True] * 6
    read, gate = [], threading.Event()

    def read_one(task: Task) -> Task:
        read.append(task)
        if len(read) == 3:
            gate.set()
        return task

    with ThreadPoolExecutor(1) as pool:
        ready = prefetch(pool, read_one, tasks, 2)
        assert next(ready) == tasks[0]
        assert gate.wait(20)  # two more are read although nobody asked yet
        time.sleep(0.05)
        assert read == tasks[:3]  # and no more than two: what is under way is bounded
        assert list(ready) == tasks[1:]


def test_pictures_of_one_size_go_together_and_few_wait() -> None:
    class One:
        def __init__(self, width: int) -> None:
            self.size = (width, 1)
            self.picture = None if width > 90 else Picture(color=torch.zeros(1, 3, 1, width))

    def widths(sizes: Sequence[int], batch: int) -> list[list[int]]:
        return [[one.size[0] for one in group] for group in batch_by_size(map(One, sizes), batch)]

    assert widths([1, 2, 1, 2, 1], 2) == [[1, 1], [2, 2], [1]]
    assert widths([3, 2, 1], 1) == [[3], [2], [1]]
    assert widths([1, 99, 1, 99], 2) == [[99], [1, 1], [99]]  # large ones wait for nobody
    assert widths([1, 2, 3, 4, 5, 6, 7, 1, 8], 2) == [[1, 1], [2], *[[n] for n in (3, 4, 5, 6, 7, 8)]]


def test_a_batch_that_fails_is_done_one_by_one(folder: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def restore(pictures: Sequence[Picture]) -> list[torch.Tensor]:
        calls.append(len(pictures))
        if len(pictures) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if pictures[0].width == 24:
            raise ValueError("this one never works.")
        results = double(pictures)
        return [result * torch.nan for result in results] if pictures[0].width == 18 else results

    done, _ = job(plan_tasks([folder], tmp_path / "out"), restore, batch=3)
    assert statuses(done) == {f"{n}.png": "restored" if n in (0, 2, 4) else "failed" for n in range(6)}
    reasons = {one.task.source.name: one.reason for one in done}
    assert reasons["5.png"] == "this one never works." and "NaN" in reasons["1.png"]
    assert sorted(calls) == [1, 1, 1, 1, 1, 1, 2, 3]
    assert len(contents(tmp_path / "out")) == 3


def test_results_of_the_same_recipe_are_kept_and_no_others(folder: Path, tmp_path: Path) -> None:
    tasks = plan_tasks([folder], tmp_path / "out")
    job(tasks)
    before = contents(tmp_path / "out")
    done, times = job(tasks, restore=None)  # nothing is left for the model
    assert set(statuses(done).values()) == {"skipped"} and times.model_s == 0
    photo(9, 9).save(folder / "0.png")
    (tmp_path / "out" / "1.png").write_bytes(encoded(photo(3, 3)))  # somebody's own
    done, _ = job(tasks)
    assert [name for name, status in statuses(done).items() if status == "failed"] == ["0.png", "1.png"]
    assert "exists already" in done[0].reason
    done, _ = job(tasks, overwrite=True)
    assert [name for name, status in statuses(done).items() if status == "restored"] == ["0.png", "1.png"]
    after = contents(tmp_path / "out")
    assert [name for name in after if after[name] != before[name]] == ["0.png"]
    done, _ = job(tasks, recipe={**RECIPE, "scale": 3.0})
    assert set(statuses(done).values()) == {"failed"}


def test_an_interrupted_job_loses_nothing_and_goes_on(folder: Path, tmp_path: Path) -> None:
    job(plan_tasks([folder], tmp_path / "whole"))
    tasks = plan_tasks([folder], tmp_path / "out")
    calls: list[int] = []

    def restore(pictures: Sequence[Picture]) -> list[torch.Tensor]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return double(pictures)

    with pytest.raises(KeyboardInterrupt):
        job(tasks, restore)
    assert len(contents(tmp_path / "out")) == 3
    done, _ = job(tasks)
    assert [one.status for one in done].count("skipped") == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done, _ = job([Task(source=folder / "0.png", target=tmp_path / "file" / "sub" / "0.png")])
    assert "cannot be made" in done[0].reason


@pytest.mark.parametrize("options", [{"batch": 0}, {"workers": 0}])
def test_impossible_numbers_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        job([], **options)


# Recipes and reports -----------------------------------------------------------------------------------------------


def test_other_weights_have_another_digest(weights: Path, tmp_path: Path) -> None:
    place = save_tiny_family(tmp_path / "family", names=("gendr", "gendr-pix"))
    assert digest_weights(place / "gendr-pix") == digest_weights(weights / "gendr-pix")
    before = digest_weights(place / "gendr")
    file = next((place / "autoencoder").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert digest_weights(place / "gendr") != before  # the shared autoencoder counts


@pytest.mark.parametrize("content", [b"", b"hello", encoded(photo(4, 4)), encoded(photo(4, 4), "JPEG")])
def test_files_without_a_recipe(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert read_entry(tmp_path / "a.png") is None


def test_the_recipe_of_a_result_of_200_megapixels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        PngStream(file, 20_000, 10_000, metadata={"gendrpix": "{}"})
        write_chunk(file, b"IDAT", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_entry(path) == "{}"


def test_a_report_replaces_only_reports(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    check_report(path, overwrite=False)
    path.write_text(",".join(COLUMNS) + "\n1\n")
    check_report(path, overwrite=False)
    path.write_text("my own notes")
    with pytest.raises(ValueError, match="is no report"):
        check_report(path, overwrite=False)
    check_report(path, overwrite=True)
    with pytest.raises(ValueError, match="is a folder"):
        check_report(tmp_path, overwrite=True)


# The command -------------------------------------------------------------------------------------------------------


def words(folder: Path, out: Path, weights: Path, *more: object) -> list[str]:
    fixed = (
        "--weights",
        weights,
        "--scale",
        "2",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--report",
        out.with_suffix(".csv"),
    )
    return [str(word) for word in ("restore", folder, "-o", out, *fixed, *more)]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_has_a_line_for_each_file(folder: Path, weights: Path, tmp_path: Path) -> None:
    (folder / "bad.jpg").write_text("no picture")
    out = tmp_path / "out"
    assert main(words(folder, out, weights)) == 1
    table = rows(tmp_path / "out.csv")
    assert [Path(row["file"]).name for row in table] == [*(f"{n}.png" for n in range(4)), "bad.jpg", "4.png", "5.png"]
    assert table[0]["status"] == "restored" and float(table[0]["seconds"]) > 0
    assert [table[0][name] for name in COLUMNS[4:]] == ["20", "16", "40", "32", ""]
    assert table[4]["status"] == "failed" and "not a picture" in table[4]["reason"]
    assert main(words(folder, out, weights)) == 1  # again: the report of before may be replaced
    assert [row["status"] for row in rows(tmp_path / "out.csv")].count("skipped") == 6
    recipe = json.loads(read_entry(out / "0.png") or "")
    assert recipe["weights_sha256"] == digest_weights(weights / "gendr-pix") and len(recipe["input_sha256"]) == 64


def test_what_a_photo_tells_of_its_owner_is_in_no_result(weights: Path, tmp_path: Path) -> None:
    """GPS, camera, description, XMP, comments and profile names, of every format that holds them."""
    exif = PIL.Image.Exif()
    exif[0x010E], exif[0x0110], exif[0x8298] = ("a secret place", "secret camera", "secret owner")
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.25), 0x1D: "1999:09:09"})
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0secret comment"
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Comment", "secret words")
    options = {
        "JPEG": {"comment": b"secret", "xmp": b"<secret/>"},
        "PNG": {"pnginfo": info},
        "WEBP": {"xmp": b"<secret/>"},
    }
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        file = tmp_path / "in" / f"{name}.{name.lower()}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encoded(photo(20, 16), name, exif=exif, **options.get(name, {})))
        assert b"secret" in file.read_bytes() and open_picture(file).color.shape[-1] == 20
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", str(weights), "--scale", "1.5"]
    assert main([*words, "--report", str(tmp_path / "report.csv"), "--restorer", "gendr-pix", "--device", "cpu"]) == 0
    results = sorted((tmp_path / "out").iterdir())
    assert len(results) == 5
    for file in (*results, tmp_path / "report.csv"):
        assert not any(word in file.read_bytes() for word in (b"secret", b"1999:09:09", b"eXIf", b"XML:com.adobe.xmp"))
    for file in results:
        with PIL.Image.open(file) as image:
            assert image.text.keys() == {"Software", "gendrpix"} and not image.getexif()


def test_a_batch_equals_single_calls_to_a_level_of_255(folder: Path, weights: Path, tmp_path: Path) -> None:
    for name, batch in (("one", "1"), ("three", "3")):
        assert main(words(folder, tmp_path / name, weights, "--guidance", "1.5", "--batch", batch)) == 0
    for path in (tmp_path / "one").rglob("*.png"):
        single, batched = (
            np.asarray(PIL.Image.open(tmp_path / name / path.relative_to(tmp_path / "one"))).astype(int)
            for name in ("one", "three")
        )
        assert np.abs(single - batched).max() <= 1


def start(arguments: list[str], **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "gendrpix", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_do_each_file_once(folder: Path, weights: Path, tmp_path: Path) -> None:
    """With the variables that torchrun and accelerate launch set."""
    (folder / "bad.jpg").write_text("no picture")
    out = tmp_path / "out"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [start(words(folder, out, weights), RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(2)]
    said = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [1, 1], said  # both know of the one that failed
    lines = [sorted(Path(line.split()[0]).name for line in stdout.splitlines()) for stdout, _ in said]
    assert lines == [["0.png", "2.png", "5.png"], ["1.png", "3.png", "4.png"]]
    table = rows(tmp_path / "out.csv")
    assert [row["status"] for row in table] == ["restored"] * 4 + ["failed"] + ["restored"] * 2
    assert "6 restored, 1 failed" in said[0][1] and "restored" not in said[1][1]
    assert main(words(folder, tmp_path / "alone", weights)) == 1
    assert contents(out) == contents(tmp_path / "alone")


def test_processes_with_different_lists_are_refused(folder: Path, tmp_path: Path) -> None:
    class Other(ProcessGroup):
        def gather(self, items: list) -> list:
            return [*items, "another list"]

    with pytest.raises(ValueError, match="see different files"):
        Other(index=0, count=2, device=torch.device("cpu")).share(plan_tasks([folder], tmp_path / "out"))


def test_a_killed_job_leaves_whole_files_and_goes_on(folder: Path, weights: Path, tmp_path: Path) -> None:
    for number in range(10, 30):
        photo(64, 48).rotate(number).save(folder / f"{number}.png")
    out = tmp_path / "out"
    child = start(words(folder, out, weights, "--guidance", "1"))
    deadline = time.monotonic() + 240
    while not list(out.rglob("*.png")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    left = list(out.rglob("*.png"))
    assert left
    for path in left:
        PIL.Image.open(path).load()
    assert main(words(folder, out, weights, "--guidance", "1")) == 0
    assert [row["status"] for row in rows(tmp_path / "out.csv")].count("skipped") >= len(left)
    assert main(words(folder, tmp_path / "whole", weights, "--guidance", "1")) == 0
    results = {name: data for name, data in contents(out).items() if name.endswith(".png")}
    assert results == contents(tmp_path / "whole")

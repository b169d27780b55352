"""What a job is to do: names kept, twins told apart, what is left out counted, whole lists and parts of them."""

import os
import time
import tracemalloc
from pathlib import Path, PurePath

import pytest

from gendrpix.errors import PictureError
from gendrpix.image.write import save_png
from gendrpix.jobs.names import FreeNames
from gendrpix.jobs.planning import Place, name_results, plan_tasks, read_list
from gendrpix.jobs.tasks import Task
from gendrpix.settings.recipe import KEYWORD
from tests.helpers.pictures import photo


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def results(tasks: list[Task], folder: Path) -> list[str]:
    return [str(task.target.relative_to(folder)) for task in tasks]


def test_results_keep_their_places_below_the_folder(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", "1.png", "0.png", "deep/er/4.jpg", "deep/3.png", ".hidden/x.png", "out/0.png")
    out = folder / "out"
    planned = plan_tasks([folder, folder / "0.png"], Place(folder=out))
    assert results(planned.tasks, out) == ["0.png", "1.png", "deep/3.png", "deep/er/4.png"]
    assert plan_tasks([folder / "deep" / "er" / "4.jpg"], Place(folder=out)).tasks[0].target == out / "4.png"


def test_twins_get_distinct_names(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", "IMG_1.jpg", "IMG_1.png", "img_1.PNG", "e\N{COMBINING ACUTE ACCENT}.png")
    two = tree(tmp_path / "two", "IMG_1.jpg", "\N{LATIN SMALL LETTER E WITH ACUTE}.png")
    out = tmp_path / "out"
    found = results(plan_tasks([one, two], Place(folder=out)).tasks, out)
    assert found[:3] == ["IMG_1.png", "IMG_1 (2).png", "e\N{COMBINING ACUTE ACCENT}.png"]
    assert found[3:] == ["img_1 (3).png", "IMG_1 (4).png", "\N{LATIN SMALL LETTER E WITH ACUTE} (2).png"]
    assert found == results(plan_tasks([one, two], Place(folder=out)).tasks, out)


def test_ten_thousand_twins_are_named_at_once() -> None:
    free = FreeNames()
    names = [free.take("IMG", ".png") for _ in range(10_000)]
    assert len(set(names)) == 10_000 and names[-1] == "IMG (10000).png"
    assert free.take("IMG (7)", ".png") == "IMG (7) (2).png"


@pytest.mark.parametrize("where", ["same", "above", "beside"])
def test_results_among_the_pictures_replace_none_and_are_left_out(where: str, tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", "a.jpg", "sub/b.png")
    for name in ("a.png", "old/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        save_png(photo(8, 8), folder / name, metadata={KEYWORD: "{}"})
    out = {"same": folder, "above": folder / "sub" / "..", "beside": None}[where]
    planned = plan_tasks([folder], Place(folder=out, ending="_x4" if out is None else ""))
    assert [one.source.name for one in planned.tasks] == ["a.jpg", "b.png"]
    assert [one.path.name for one in planned.left_out] == ["a.png", "c.png"]
    assert {one.why for one in planned.left_out} == {"result"}
    targets = [one.target.name for one in planned.tasks]
    assert targets == (["a_x4.png", "b_x4.png"] if out is None else ["a.png", "b (2).png"])
    assert planned.tasks[1].target.parent.resolve() == folder / "sub"


def test_results_of_other_jobs_elsewhere_are_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_png(photo(8, 8), tmp_path / "in" / "a.png", metadata={KEYWORD: "{}"})
    assert len(plan_tasks([tmp_path / "in"], Place(folder=tmp_path / "out")).tasks) == 1


def test_what_a_folder_leaves_out_is_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree(tmp_path / "in", "a.png", "b.nef", "c.txt", "d", "e.doc", ".f.png", "locked/g.png")
    (folder / "linked").symlink_to(folder, target_is_directory=True)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "file.png").symlink_to(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    planned = plan_tasks([folder], Place(folder=tmp_path / "out"))
    assert [one.source.name for one in planned.tasks] == ["a.png", "file.png"]
    why = {one.path.name: one.why for one in planned.left_out}
    assert why == {
        "b.nef": "other kind",
        "c.txt": "other kind",
        "d": "other kind",
        "e.doc": "other kind",
        ".f.png": "hidden",
        "linked": "link to a folder",
        "gone.png": "link to nothing",
        "pipe.png": "no ordinary file",
        "locked": "cannot be read",
    }
    assert "4 other kind ('b.nef', 'c.txt', 'd', 1 more)" in planned.said()


def test_a_list_keeps_relative_folders_and_never_stops_for_one_name(tmp_path: Path, monkeypatch) -> None:
    tree(tmp_path, "x/IMG_1.jpg", "y/IMG_1.jpg", "y/z/2.png")
    monkeypatch.chdir(tmp_path)
    listed = read_list(f"x/IMG_1.jpg\n\ny\r\nmissing.png\nx/IMG_1.jpg\n{tmp_path / 'x' / 'IMG_1.jpg'}\n".encode())
    planned = plan_tasks([], Place(folder=Path("out")), listed)
    names = ["x/IMG_1.png", "y/IMG_1.png", "y/z/2.png", "missing.png", "IMG_1.png"]
    assert results(planned.tasks, Path("out")) == names
    assert read_list(b"a\nb.png\0\xff.png\0") == [Path("a\nb.png"), Path(os.fsdecode(b"\xff.png"))]


def test_parts_are_apart_and_together_the_whole(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in", *(f"{number}.png" for number in range(10)))
    planned = plan_tasks([folder], Place(folder=tmp_path / "out"))
    parts = [planned.shard(index, 3) for index in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert {task.target for part in parts for task in part} == {task.target for task in planned.tasks}
    assert planned.shard(1, 1) == planned.tasks


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    tree(tmp_path / "full", "a.png")
    place = Place(folder=tmp_path / "out")
    with pytest.raises(PictureError, match="holds no pictures"):
        plan_tasks([tmp_path / "empty"], place)
    assert len(plan_tasks([tmp_path / "empty", tmp_path / "full"], place).tasks) == 1
    with pytest.raises(PictureError, match="is not there"):
        plan_tasks([tmp_path / "gone.png"], place)
    with pytest.raises(ValueError, match="is a file"):
        plan_tasks([tmp_path / "full"], Place(folder=tmp_path / "full" / "a.png"))


def test_odd_names(tmp_path: Path) -> None:
    names = ["..jpg", "a..png", "no suffix", "x.tar.png", "sp ace .png", "dir.x/file"]
    found = {Path(name): PurePath(name) for name in names}
    targets = [str(task.target) for task in name_results(found, Place(folder=tmp_path))]
    expected = ["..jpg.png", "a..png", "no suffix.png", "x.tar.png", "sp ace .png", "dir.x/file.png"]
    assert targets == [str(tmp_path / name) for name in expected]


@pytest.mark.deadline
def test_many_names_are_planned_in_little_time_and_memory(tmp_path: Path) -> None:
    """A fifth of 100,000 names, in a fifth of 20 s of processor time and of 300 MB."""
    listed = [Path(f"/photos/{number // 1000:04}/IMG_{number % 1000:04}.jpg") for number in range(20_000)]
    tracemalloc.start()
    plan_tasks([], Place(folder=tmp_path), listed[:2000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
    start = time.process_time()
    assert len(plan_tasks([], Place(folder=tmp_path), listed).tasks) == 20_000
    assert time.process_time() - start < 4

"""Networks of others that `judge` runs: in tiles, each photo once, and on again after a kill."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendrpix import files
from gendrpix.image.read import open_picture
from gendrpix.settings.restoration import RestoreSettings
from tests.baselines.test_networks import ENLARGES, write_network
from tests.training.evaluation.test_evaluate import array_of, write_photos
from training.evaluation.datasets import photo_dataset
from training.evaluation.judge import methods
from training.evaluation.judge.config import JudgeConfig
from training.evaluation.judge.judge import judge
from training.evaluation.judge.methods import CachedNetwork, fill

SETTINGS = RestoreSettings(scale=4.0)
SIZES = {"a": (40, 30), "b": (20, 20), "c": (24, 20)}


def expected_of(path: Path) -> np.ndarray:
    """What the little network makes of a photo: half its levels and 25.5, every pixel four times."""
    return np.rint(0.5 * array_of(path) + 25.5).repeat(4, axis=0).repeat(4, axis=1)


def test_results_are_kept_by_pixels_and_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, dataset = write_photos(tmp_path / "p", SIZES), photo_dataset(tmp_path / "p")
    network = CachedNetwork("n", write_network(tmp_path / "net"), tmp_path / "cache", SETTINGS)
    done: list[tuple[int, ...]] = []
    restore = CachedNetwork._restore
    monkeypatch.setattr(CachedNetwork, "_restore", lambda self, x: done.append(tuple(x.shape)) or restore(self, x))
    fill([network], dataset)
    assert done == [(1, 3, 20, 20), (1, 3, 20, 24), (1, 3, 30, 40)]  # small ones first
    assert np.abs(np.asarray(network.picture(dataset.open("a"))) - expected_of(photos / "a.png")).max() <= 1
    again = CachedNetwork("n", tmp_path / "net" / "model.param", tmp_path / "cache", SETTINGS)
    fill([again], dataset)
    assert len(done) == 3
    Image.open(photos / "b.png").save(photos / "b.bmp")  # the same pixels in another file
    (photos / "b.png").unlink()
    fill([again], photo_dataset(photos))
    assert len(done) == 3
    Image.open(photos / "c.png").transpose(Image.Transpose.ROTATE_180).save(photos / "c.png")
    fill([again], photo_dataset(photos))
    assert done[3:] == [(1, 3, 20, 24)]
    other = CachedNetwork("n", write_network(tmp_path / "net2", weights=b"\0" * 8), tmp_path / "cache", SETTINGS)
    assert other.folder != again.folder and not other.has(dataset.open("a"))


def test_tiles_are_as_the_whole_where_the_network_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "p", {"a": (90, 61)})
    network = CachedNetwork("n", write_network(tmp_path / "net"), tmp_path / "cache", SETTINGS)
    pixels = open_picture(tmp_path / "p" / "a.png").color
    whole = network._restore(pixels)
    monkeypatch.setattr(methods, "TILE_PX", 192)
    seen: list[int] = []
    run = network._network
    network._network = lambda x: seen.append(max(x.shape[-2:])) or run(x)
    tiled = network._restore(pixels)
    assert len(seen) > 2 and max(seen) <= 48 and tiled.shape == (1, 3, 244, 360)
    assert torch.allclose(tiled, whole, atol=1e-5)


def fill_and_die(photos: Path, network: CachedNetwork) -> None:
    """Fill the cache; SIGKILL where the second result is written and has not got its name."""
    publish, count = files.publish, [0]

    def dying(part: Path, path: Path, overwrite: bool) -> None:
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        publish(part, path, overwrite)

    files.publish = dying
    fill([network], photo_dataset(photos))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed process is a fork")
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    photos, param = write_photos(tmp_path / "p", SIZES), write_network(tmp_path / "net")
    network = CachedNetwork("n", param, tmp_path / "cache", SETTINGS)
    child = multiprocessing.get_context("fork").Process(target=fill_and_die, args=(photos, network))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in network.folder.glob("*.png")}
    assert len(kept) == 1 and len(list(network.folder.glob(".*.part"))) == 1  # the unfinished one has no name
    network = CachedNetwork("n", param, tmp_path / "cache", SETTINGS)
    assert not list(network.folder.glob(".*.part"))
    fill([network], photo_dataset(photos))
    after = {path.name: path.stat().st_mtime_ns for path in network.folder.iterdir()}
    assert len(after) == 3 and kept.items() <= after.items()


def test_only_photos_with_results_are_judged_where_that_is_asked(tmp_path: Path) -> None:
    photos, param = write_photos(tmp_path / "p", SIZES), write_network(tmp_path / "net")
    config = JudgeConfig(
        out=tmp_path / "out",
        photos=photos,
        weights=(),
        ncnn=(f"half={param}",),
        reference="half",
        cache=tmp_path / "cache",
        ready_only=True,
        metrics=("grid",),
        device="cpu",
    )
    with pytest.raises(ValueError, match=r"No photo has all its results in .*cache yet; leave out --ready-only"):
        judge(config)
    CachedNetwork("half", param, config.cache, SETTINGS).picture(photo_dataset(photos).open("b"))
    text = judge(config).read_text(encoding="utf-8")
    assert "Photos: 1 of 3, those whose results are at hand. The reference is half." in text
    assert [file.name for file in (config.out / "sheets").iterdir()] == ["b.png"]


def test_a_network_of_another_factor_is_refused_at_once(tmp_path: Path) -> None:
    param = write_network(tmp_path / "net", ENLARGES.replace("4.000000e+00", "2.000000e+00"))
    with pytest.raises(ValueError, match=r"model.param makes 32 x 32 pixels of 16 x 16; expected 4 times as many"):
        CachedNetwork("n", param, tmp_path / "cache", SETTINGS)
    assert not (tmp_path / "cache").exists()

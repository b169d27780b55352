"""Photos and crops: what is skipped, held out, drawn; workers, processes and resumes that change nothing."""

from __future__ import annotations

import dataclasses
import io
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gendrpix.image.resize import resize
from training.config import DataConfig
from training.data.crops import HELD_OUT_SEED, CropDataset, open_crops
from training.data.degradation import apply, sample_rng
from training.data.degradation_ops import sharpen
from training.data.degradation_presets import PRESETS
from training.data.loader import open_loader, sample_batches, step_sampler
from training.data.photos import PhotoFolder
from training.data.sample import CropSettings, crop
from training.data.stream import StreamedCrops, hub_photos, tar_photos
from training.tools.preview import contact_sheet

SIZES = [(96, 80), (64, 120), (70, 70), (200, 160), (64, 64)]
SETTINGS = CropSettings(crop_px=32, degradation=PRESETS["mild"], negative_probability=0.3)


def photo(height: int, width: int, seed: int) -> Image.Image:
    """Coarse random colours, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    (root / "more").mkdir()
    for number, (height, width) in enumerate(SIZES):
        photo(height, width, number).save((root / "more" if number > 2 else root) / f"p{number}.png")
    return root


@pytest.fixture(scope="module")
def crops(folder: Path) -> CropDataset:
    return CropDataset(PhotoFolder(folder), SETTINGS, seed=7)


# Photos -----------------------------------------------------------------------------------------------------


def test_photos_are_found_in_order_with_their_sizes(folder: Path) -> None:
    photos = PhotoFolder(folder)
    assert len(photos) == len(SIZES)
    assert photos.sizes == [SIZES[int(path.stem[1])] for path in photos.paths]
    for number, path in enumerate(photos.paths):
        expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        assert torch.equal(photos.pixels(number), expected)


def test_memory_budget_changes_nothing_but_memory(folder: Path, crops: CropDataset) -> None:
    none = CropDataset(PhotoFolder(folder, memory_bytes=0), SETTINGS, seed=7)
    some = CropDataset(PhotoFolder(folder, memory_bytes=60_000), SETTINGS, seed=7)
    assert not none.photos._kept
    assert 0 < len(some.photos._kept) < len(SIZES)
    for index in range(6):
        for name, value in crops[index].items():
            assert torch.equal(none[index][name], value)
            assert torch.equal(some[index][name], value)


def test_unusable_files_are_skipped_and_named(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(90, 90, 0).save(tmp_path / "good.png")
    photo(90, 20, 0).save(tmp_path / "narrow.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture at all")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:400])
    (tmp_path / "notes.txt").write_text("ignored")
    with caplog.at_level(logging.WARNING, "training.data.photos"):
        photos = PhotoFolder(tmp_path)
    assert [path.name for path in photos.paths] == ["good.png"]
    assert sorted(path.name for path in photos.skipped) == ["broken.jpg", "cut.png", "narrow.png"]
    assert "3 of 4 files skipped" in caplog.text
    assert "narrow.png (is 20 x 90, smaller than 64 pixels)" in caplog.text


def test_a_photo_that_breaks_later_gives_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        photo(70, 70, number).save(tmp_path / f"{number}.png")
    photos = PhotoFolder(tmp_path, memory_bytes=0)
    (tmp_path / "0.png").write_bytes(b"")
    assert torch.equal(photos.pixels(0), photos.pixels(1))
    assert "0.png cannot be read any more" in caplog.text
    (tmp_path / "1.png").unlink()
    with pytest.raises(ValueError, match="restore the folder"):
        photos.pixels(1)


def test_exif_orientation_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(70, 100, 0).save(tmp_path / "turned.jpg", exif=exif)
    for memory_bytes in (0, 1 << 20):
        photos = PhotoFolder(tmp_path, memory_bytes=memory_bytes)
        assert photos.sizes == [(100, 70)]
        assert photos.pixels(0).shape == (3, 100, 70)


def test_errors_of_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--data\.folder"):
        PhotoFolder(Path())
    with pytest.raises(ValueError, match="is no folder"):
        PhotoFolder(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no pictures"):
        PhotoFolder(tmp_path)
    with pytest.raises(ValueError, match="None of the 5 pictures"):
        PhotoFolder(folder, shortest_px=1000)
    with pytest.raises(ValueError, match="expected"):
        PhotoFolder(folder, part="test")
    photo(70, 70, 0).save(tmp_path / "only.png")
    with pytest.raises(ValueError, match="holds one picture"):
        PhotoFolder(tmp_path, part="train")


def test_held_out_files_follow_their_names(tmp_path: Path) -> None:
    for number in range(60):
        photo(64, 64, number).save(tmp_path / f"{number}.png")
    everything = PhotoFolder(tmp_path).paths
    train, held_out = PhotoFolder(tmp_path, part="train").paths, PhotoFolder(tmp_path, part="held-out").paths
    assert len(held_out) == 3
    assert sorted([*train, *held_out]) == sorted(everything)
    photo(64, 64, 99).save(tmp_path / "another.png")
    assert len(set(PhotoFolder(tmp_path, part="held-out").paths) & set(held_out)) >= 2


def test_photos_are_chosen_by_area(folder: Path) -> None:
    photos = PhotoFolder(folder)
    shares = (np.arange(20_000) + 0.5) / 20_000
    counts = np.bincount([photos.choose(float(share)) for share in shares], minlength=len(photos))
    areas = np.array([height * width for height, width in photos.sizes])
    np.testing.assert_allclose(counts / 20_000, areas / areas.sum(), atol=1e-3)
    assert photos.choose(1.0) == len(photos) - 1


# Crops ------------------------------------------------------------------------------------------------------


def test_items_have_the_shapes_and_ranges_promised(crops: CropDataset) -> None:
    for index in range(20):
        item = crops[index]
        assert set(item) == {"hq", "lq", "small", "negative", "index"}
        for name in ("hq", "lq"):
            assert item[name].shape == (3, 32, 32)
            assert item[name].dtype == torch.float32
            assert item[name].abs().max() <= 1
        assert item["negative"].dtype == torch.bool
        assert int(item["index"]) == index
        sample = crops.sample(index)
        assert torch.equal(sample.lq, resize(sample.small[None], 32, 32)[0])
        assert sample.small.shape == (3, 8, 8)
    negatives = np.mean([bool(crops.sample(i).negative) for i in range(400)])
    assert negatives == pytest.approx(0.3, abs=0.1)


def test_the_preset_changes_the_degradation_alone(crops: CropDataset) -> None:
    other = CropDataset(crops.photos, dataclasses.replace(SETTINGS, degradation=PRESETS["real-esrgan"]), seed=7)
    plain = CropDataset(crops.photos, dataclasses.replace(SETTINGS, degradation=None), seed=7)
    for index in range(4):
        assert torch.equal(crops[index]["hq"], other[index]["hq"])
        assert not torch.equal(crops[index]["lq"], other[index]["lq"])
        assert torch.equal(plain[index]["lq"], crops[index]["hq"])


def test_another_seed_gives_other_samples(crops: CropDataset) -> None:
    other = CropDataset(crops.photos, SETTINGS, seed=8)
    assert not any(torch.equal(crops[i]["hq"], other[i]["hq"]) for i in range(4))


def test_crops_without_zoom_and_flips_are_parts_of_the_photo() -> None:
    pixels = torch.arange(3 * 40 * 50, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 40, 50)
    settings = CropSettings(crop_px=16, degradation=None, zoom=(1.0, 1.0), flips=False)
    windows = pixels.unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 25, 35, 16, 16)
    places = set()
    for index in range(40):
        part = (crop(pixels, settings, sample_rng(0, index)) + 1).mul(127.5).round().to(torch.uint8)
        hits = (windows == part[:, None, None]).all(-1).all(-1).all(0).nonzero()
        assert len(hits) >= 1
        places.add(tuple(hits[0].tolist()))
    assert len(places) > 30


def test_flips_reach_all_eight_positions() -> None:
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[:, 0, 1] = 255
    settings = CropSettings(crop_px=16, degradation=None, zoom=(1.0, 1.0))
    seen = {tuple((crop(pixels, settings, sample_rng(0, i))[0] == 1).nonzero()[0].tolist()) for i in range(100)}
    assert seen == {(0, 1), (0, 14), (15, 1), (15, 14), (1, 0), (14, 0), (1, 15), (14, 15)}


def test_candidates_prefer_detail() -> None:
    pixels = torch.zeros(3, 64, 256, dtype=torch.uint8)
    pixels[:, :, 128:] = torch.randint(0, 256, (3, 64, 128), dtype=torch.uint8)
    shares = []
    for candidates in (1, 4):
        settings = CropSettings(crop_px=32, degradation=None, candidates=candidates)
        flat = [float(crop(pixels, settings, sample_rng(0, i)).std()) < 1e-3 for i in range(100)]
        shares.append(np.mean(flat))
    assert shares[0] > 0.3
    assert shares[1] < 0.15


def test_zoom_is_limited_by_the_photo() -> None:
    pixels = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    settings = CropSettings(crop_px=32, degradation=None, zoom=(0.25, 0.25), flips=False)
    whole = resize(pixels[None].float() / 127.5 - 1, 32, 32)[0]
    assert torch.equal(crop(pixels, settings, sample_rng(0, 0)), whole)


def test_a_sharpened_target_is_what_is_degraded(folder: Path) -> None:
    config = DataConfig(folder=folder, crop_px=32, num_workers=0, degradation="bicubic")
    plain, _ = open_crops(config, seed=3)
    sharp, _ = open_crops(dataclasses.replace(config, sharpen_target=True), seed=3)
    for before, after in zip(plain.samples(0, 4), sharp.samples(0, 4), strict=True):
        assert torch.equal(after.hq, sharpen(before.hq[None])[0]) and not torch.equal(after.hq, before.hq)
        assert (after.plan, after.negative) == (before.plan, before.negative)
        assert before.plan is not None
        torch.testing.assert_close(after.small, apply(before.plan, after.hq))


def test_errors_of_crops(folder: Path, crops: CropDataset) -> None:
    with pytest.raises(ValueError, match="multiple of the scale"):
        CropSettings(crop_px=30, degradation=None)
    with pytest.raises(ValueError, match="zoom"):
        CropSettings(crop_px=32, degradation=None, zoom=(0.0, 1.0))
    with pytest.raises(ValueError, match="candidates"):
        CropSettings(crop_px=32, degradation=None, candidates=0)
    with pytest.raises(ValueError, match="negative_probability"):
        CropSettings(crop_px=32, degradation=None, negative_probability=2.0)
    with pytest.raises(ValueError, match="shortest_px=128"):
        CropDataset(PhotoFolder(folder), dataclasses.replace(SETTINGS, crop_px=128), seed=0)
    with pytest.raises(IndexError):
        CropDataset(crops.photos, SETTINGS, seed=0, length=3)[3]
    with pytest.raises(ValueError, match="process 2 of 2"):
        step_sampler(0, 1, 1, 2, 2)


def test_open_crops_splits_and_fixes_the_held_out_ones(folder: Path) -> None:
    config = DataConfig(folder=folder, crop_px=32)
    train, check = open_crops(config, seed=3)
    assert not set(train.photos.paths) & set(check.photos.paths)
    assert train.seed == 3
    assert check.seed == HELD_OUT_SEED
    assert not any(bool(check[i]["negative"]) for i in range(40))
    plain, _ = open_crops(dataclasses.replace(config, degradation="none"), seed=3)
    assert torch.equal(plain[0]["hq"], plain[0]["lq"])


# Order ------------------------------------------------------------------------------------------------------


def load(dataset: CropDataset, batches: Iterator[list[int]], workers: int) -> list[dict[str, torch.Tensor]]:
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return list(loader)


def assert_equal(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_workers_change_nothing(crops: CropDataset) -> None:
    alone = load(crops, step_sampler(0, 5, 3), 0)
    assert_equal(load(crops, step_sampler(0, 5, 3), 2), alone)
    assert torch.cat([batch["index"] for batch in alone]).tolist() == list(range(15))


def test_a_resume_goes_on_where_it_stopped(crops: CropDataset) -> None:
    whole = load(crops, step_sampler(0, 4, 2), 0)
    assert_equal(load(crops, step_sampler(0, 2, 2), 0) + load(crops, step_sampler(2, 4, 2), 2), whole)


def test_processes_share_what_one_would_see() -> None:
    together = list(step_sampler(1, 4, 6))
    parts = [list(step_sampler(1, 4, 2, process, 3)) for process in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*parts, strict=True)] == together
    assert list(step_sampler(4, 4, 2)) == []


# To look at -------------------------------------------------------------------------------------------------


def test_contact_sheet_shows_three_pictures_a_row(crops: CropDataset) -> None:
    sheet = contact_sheet(crops, 2)
    assert sheet.mode == "RGB"
    assert sheet.width > 3 * 32
    assert sheet.height > 2 * 32
    target = (crops[0]["hq"].permute(1, 2, 0) + 1).mul(127.5).round().to(torch.uint8).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(sheet), (32, 32, 3))
    assert any((window == target).all() for window in windows.reshape(-1, 32, 32, 3))


# Streams ----------------------------------------------------------------------------------------------------


def png(height: int, width: int, seed: int) -> bytes:
    file = io.BytesIO()
    photo(height, width, seed).save(file, format="PNG")
    return file.getvalue()


def stream_of(*photos: bytes) -> StreamedCrops:
    def pictures() -> Iterator[tuple[str, object]]:
        for number, data in enumerate(photos):
            yield f"photo {number}", lambda data=data: data

    return StreamedCrops(pictures, SETTINGS, seed=7, batch=2, steps=4)


def copy(dataset: StreamedCrops, **changes: int) -> StreamedCrops:
    names = ("batch", "steps", "start_step", "process_index", "num_processes")
    settings = {name: getattr(dataset, name) for name in names} | changes
    return StreamedCrops(dataset.photos, dataset.settings, seed=dataset.seed, **settings)


def streamed(dataset: StreamedCrops, workers: int = 0) -> list[dict[str, torch.Tensor]]:
    context = "fork" if workers else None
    return list(DataLoader(dataset, batch_size=dataset.batch, num_workers=workers, multiprocessing_context=context))


def test_streams_depend_on_the_sample_index_alone(caplog: pytest.LogCaptureFixture) -> None:
    good = [png(64, 80, seed) for seed in range(3)]
    dataset = stream_of(good[0], b"broken", good[1], png(16, 16, 0), good[2])  # 5 photos for 8 samples
    whole = streamed(dataset)
    assert torch.cat([batch["index"] for batch in whole]).tolist() == list(range(8))
    assert "photo 1 skipped" in caplog.text
    assert "photo 3 skipped: 16 x 16 is smaller than the crop" in caplog.text
    assert_equal(streamed(dataset, workers=2), whole)
    assert_equal(streamed(copy(dataset, start_step=2)), whole[2:])
    halves = [streamed(copy(dataset, steps=2, process_index=p, num_processes=2)) for p in range(2)]
    assert_equal([halves[0][0], halves[1][0], halves[0][1], halves[1][1]], whole)


def test_a_stream_opened_by_its_address_is_the_same_stream(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "hub").mkdir()
    for number in range(5):
        (tmp_path / "hub" / f"{number}.png").write_bytes(png(64, 70, number))
    config = DataConfig(folder=folder, stream=f"hub:{tmp_path / 'hub'}", crop_px=32, num_workers=0)
    crops, held_out = open_crops(config, seed=7)
    assert len(held_out.photos) == 5, "all photos of the folder are held out"
    batches = list(open_loader(crops, 2, 4, start_step=1, num_workers=1))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(2, 8))
    assert_equal(list(sample_batches(crops, 6, torch.device("cpu"), start=2, batch=2)), batches)
    settings = dataclasses.replace(SETTINGS, degradation=PRESETS["photo"], negative_probability=0.1, candidates=2)
    expected = StreamedCrops(stream_of(*(png(64, 70, n) for n in range(5))).photos, settings, seed=7, batch=2, steps=4)
    assert_equal(streamed(expected)[1:], batches)


def test_streams_without_a_usable_photo_end_with_an_error() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        next(iter(stream_of()))
    with pytest.raises(ValueError, match="no photo that can be used"):
        next(iter(stream_of(b"broken", png(16, 16, 0))))
    with pytest.raises(ValueError, match="process 1 of 1"):
        copy(stream_of(), process_index=1)


def test_tar_shards(tmp_path: Path) -> None:
    data = [png(64, 70, seed) for seed in range(4)]
    for shard in range(2):
        with tarfile.open(tmp_path / f"photos-{shard}.tar", "w") as tar:
            for number in (2 * shard, 2 * shard + 1):
                for suffix, content in ((".txt", b"a caption"), (".png", data[number])):
                    entry = tarfile.TarInfo(f"{number:03d}{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    photos = tar_photos(f"{tmp_path}/photos-{{0..1}}.tar")
    assert [(name, read()) for name, read in photos()] == [(f"{i:03d}", data[i]) for i in range(4)]
    dataset = StreamedCrops(photos, SETTINGS, seed=7, batch=2, steps=4)
    whole = streamed(dataset)
    assert_equal(whole, streamed(stream_of(*data)))
    assert_equal(streamed(dataset, workers=2), whole)


def test_hub_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(64, 70, number))
    photos = hub_photos("imagefolder", data_dir=str(tmp_path))
    assert [read() for _, read in photos()] == [png(64, 70, number) for number in range(3)]
    dataset = StreamedCrops(photos, SETTINGS, seed=7, batch=2, steps=4)
    assert_equal(streamed(dataset, workers=2), streamed(stream_of(*(png(64, 70, seed) for seed in range(3)))))
    with pytest.raises(ValueError, match="no column 'photo'"):
        next(iter(hub_photos("imagefolder", data_dir=str(tmp_path), column="photo")()))


@pytest.mark.parametrize(("package", "opened"), [("webdataset", tar_photos), ("datasets", hub_photos)])
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, package: str, opened: object) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        opened("anything")

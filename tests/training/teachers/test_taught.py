"""A pixel teacher's pictures: computed once, found again, the same for every run, process and resume."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch

from gendrpix.image.resize import resize
from gendrpix.image.write import save_png, to_pil
from gendrpix.restore.pipelines import GenDRPixPipeline
from tests.helpers.models import EVEN, TINY, save_tiny_family
from tests.helpers.stages import assert_same, checkpoint_state, make_photos, stage_words
from training.__main__ import main
from training.config import DataConfig, TaughtConfig
from training.data.crops import crop_settings, open_training_crops
from training.data.loader import open_loader
from training.teachers.pixel_teacher import FolderTeacher, digest_picture, open_pixel_teacher
from training.teachers.taught import BLOCK, FinishedStore, JoinedStore, TaughtCrops, TaughtStore, open_store
from training.tools.targets import TargetsConfig, targets


class Inverting:
    """The enlarged picture with its colours inverted; counts what it is asked."""

    digest = "inverting"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, small: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        self.calls += len(small)
        return -x


def open_crops(folder: Path, photos: Path, teacher: Inverting, count: int = 2 * BLOCK, seed: int = 3) -> TaughtCrops:
    data = DataConfig(folder=photos, crop_px=32, degradation="mild", negative_probability=0.3)
    store = TaughtStore(folder, count, open_training_crops(data, 0, crop_px=64), teacher)
    return TaughtCrops(store, crop_settings(data), uses=3, seed=seed)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), side=96)


def test_a_sample_is_one_place_of_all_four_pictures(tmp_path: Path, photos: Path) -> None:
    crops = open_crops(tmp_path, photos, Inverting())
    for sample in crops.samples(0, 12):
        assert sample.hq.shape == sample.lq.shape == sample.taught.shape == (3, 32, 32)
        assert sample.small.shape == (3, 8, 8)
        torch.testing.assert_close(sample.taught, -sample.lq, atol=2 / 255, rtol=0)  # stored as 8-bit levels
        inner = resize(sample.small[None], 32, 32)[0, :, 12:20, 12:20]
        torch.testing.assert_close(inner, sample.lq[:, 12:20, 12:20], atol=2 / 255, rtol=0)
        blurred = torch.nn.functional.avg_pool2d(sample.hq[None], 4)[0]
        assert torch.corrcoef(torch.stack([blurred.flatten(), sample.small.flatten()]))[0, 1] > 0.8


def test_every_crop_is_used_equally_often_and_computed_once(tmp_path: Path, photos: Path) -> None:
    teacher = Inverting()
    crops = open_crops(tmp_path, photos, teacher)
    drawn = [crops.number(index) for index in range(2 * BLOCK * 3)]
    assert sorted(drawn) == sorted(list(range(2 * BLOCK)) * 3)
    assert drawn[: 2 * BLOCK] != list(range(2 * BLOCK)), "shuffled"
    later = [crops.number(index) for index in range(2 * BLOCK * 3, 2 * BLOCK * 6)]
    assert later != drawn and sorted(later) == sorted(drawn)
    list(crops.samples(0, 2 * BLOCK * 3))
    assert teacher.calls == 2 * BLOCK
    again = open_crops(tmp_path, photos, teacher)
    first, second = (next(each.samples(70, 1)) for each in (crops, again))
    assert torch.equal(first.taught, second.taught) and first.negative == second.negative
    assert teacher.calls == 2 * BLOCK


def test_workers_and_a_later_start_see_the_same_batches(tmp_path: Path, photos: Path) -> None:
    crops = open_crops(tmp_path, photos, Inverting())
    whole = list(open_loader(crops, 2, 6))
    late = list(open_loader(crops, 2, 6, start_step=4, num_workers=1))
    for one, other in zip(whole[4:], late, strict=True):
        assert_same(one, other)
    assert {"hq", "lq", "small", "taught", "negative", "index"} == set(whole[0])


def test_filled_stores_join_in_proportion_to_their_sizes(tmp_path: Path, photos: Path) -> None:
    main_crops = open_crops(tmp_path / "main", photos, Inverting(), count=3 * BLOCK)
    other = open_crops(tmp_path / "other", photos, Inverting(), count=BLOCK, seed=9)
    with pytest.raises(ValueError, match=r"holds no store; pass a folder that"):
        FinishedStore(tmp_path / "other")
    other.store.ensure(0)
    joined = JoinedStore([main_crops.store, FinishedStore(tmp_path / "other")])
    assert joined.count == 4 * BLOCK
    computed = [joined.ensure(block) for block in range(4)]
    assert computed.count(True) == 3 and len(list((tmp_path / "main").glob("block-*"))) == 3
    at = computed.index(False)
    assert torch.equal(joined.crop(at * BLOCK + 5)["hq"], other.store.crop(5)["hq"])
    assert torch.equal(joined.crop(0)["taught"], main_crops.store.crop(0)["taught"])


def fill(folder: Path, photos: Path) -> None:
    torch.set_num_threads(1)
    crops = open_crops(folder, photos, Inverting())
    computed = [crops.store.ensure(block) for block in range(crops.store.num_blocks)]
    (folder / f"computed-{multiprocessing.current_process().name}").write_text(str(sum(computed)))


def test_two_processes_share_the_work(tmp_path: Path, photos: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(tmp_path, photos), name=name) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    counts = [int((tmp_path / f"computed-{name}").read_text()) for name in ("a", "b")]
    assert sum(counts) == 2 and len(list(tmp_path.glob("block-*.safetensors"))) == 2
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.usefixtures("tiny")
def test_the_store_is_found_by_all_that_its_crops_depend_on(tmp_path: Path, photos: Path) -> None:
    network = tmp_path / "teacher"
    family = save_tiny_family(tmp_path / "family")
    taught = TaughtConfig(teacher=str(family / "gendr"), folder=network, crop_px=64, count=4)
    data = DataConfig(folder=photos, crop_px=32, degradation="mild")

    def key(taught: TaughtConfig, data: DataConfig) -> str:
        return open_store(taught, data, tmp_path, torch.device("cpu")).folder.name

    first = key(taught, data)
    assert first == key(dataclasses.replace(taught, count=9, uses=2), dataclasses.replace(data, crop_px=64))
    assert first != key(dataclasses.replace(taught, seed=1), data)
    assert first != key(taught, dataclasses.replace(data, degradation="photo"))
    with pytest.raises(ValueError, match=r"taught.crop_px is 64, smaller than data.crop_px, 128"):
        key(taught, dataclasses.replace(data, crop_px=128))


def test_finished_outputs_are_a_teacher(tmp_path: Path, photos: Path) -> None:
    """The degraded pictures are written, restored elsewhere, and found again by their content."""
    data = DataConfig(folder=photos, crop_px=32, degradation="mild")
    config = TargetsConfig(data=data, taught=TaughtConfig(crop_px=64, count=4), inputs=tmp_path / "in")
    names = sorted(path.name for path in targets(config).iterdir())
    assert len(names) == 4 + 16, "those of the held-out crops too"
    outside = tmp_path / "outside"
    outside.mkdir()
    levels = torch.full((3, 64, 64), 0.5)
    for name in names:
        save_png(to_pil(levels), outside / name)
    teacher = open_pixel_teacher(str(outside), torch.device("cpu"))
    assert isinstance(teacher, FolderTeacher)
    sample = next(open_training_crops(data, 0, crop_px=64).samples(2, 1))
    assert f"{digest_picture(sample.small)}.png" in names
    torch.testing.assert_close(teacher(sample.small[None], sample.lq[None])[0], levels, atol=1 / 255, rtol=0)
    with pytest.raises(ValueError, match=r"lacks [0-9a-f]{32}.png; write the inputs again"):
        teacher(sample.small[None] / 2, sample.lq[None])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"holds no finished outputs"):
        open_pixel_teacher(str(tmp_path / "none"), torch.device("cpu"))


def test_a_teacher_of_another_scale_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ncnn", reason="pip install -r requirements-peers.txt")
    from tests.baselines.test_networks import write_network

    teacher = open_pixel_teacher(str(write_network(tmp_path)), torch.device("cpu"))
    small = torch.rand(2, 3, 6, 6) * 2 - 1
    assert teacher(small, resize(small, 24, 24)).shape == (2, 3, 24, 24)
    with pytest.raises(ValueError, match=r"model.param makes 24 x 24 pixels of 6 x 6, and the samples have 12 x 12"):
        teacher(small, resize(small, 12, 12))


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny family whose finest level can be trained alone, beside the tiny one."""
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {spec.name: spec for spec in (TINY, EVEN)})


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("stage", ["finest", "pix", "teacher"])
def test_stages_learn_from_a_pixel_teacher_and_resume_as_if_never_stopped(
    stage: str, tmp_path: Path, photos: Path
) -> None:
    family = save_tiny_family(tmp_path / "family")
    words = stage_words(stage, family, photos, tmp_path / "run", steps=4, checkpoint_every=2, seed=5)
    words += ["--model", EVEN.name] if stage == "finest" else []
    words += ["--taught.teacher", str(family / "gendr"), "--taught.folder", str(tmp_path / "taught")]
    words += ["--taught.crop-px", "64", "--taught.count", "40", "--taught.uses", "2"]
    assert main(words) == 0
    blocks = sorted((tmp_path / "taught").glob("*/block-*.safetensors"))
    assert blocks
    whole = checkpoint_state(tmp_path / "run/checkpoints/step-00000004")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000004")
    assert main(words) == 0
    assert_same(whole, checkpoint_state(tmp_path / "run/checkpoints/step-00000004"))


@pytest.mark.usefixtures("even")
def test_the_weights_of_truth_and_teacher_decide_what_is_learnt(tmp_path: Path, photos: Path) -> None:
    """A teacher of constant grey: without a truth the result comes nearer to it."""
    grey = tmp_path / "grey"
    data = ["--data.folder", str(photos), "--data.crop-px", "32", "--data.degradation", "mild"]
    taught = ["--taught.crop-px", "32", "--taught.count", "32", "--taught.uses", "2"]
    assert main(["targets", *data, *taught, "--inputs", str(tmp_path / "in")]) == 0
    grey.mkdir()
    for file in (tmp_path / "in").iterdir():
        save_png(to_pil(torch.zeros(3, 32, 32)), grey / file.name)
    results = {}
    for name, weights in {"truth": ("1", "0"), "teacher": ("0", "1")}.items():
        words = stage_words("finest", tmp_path, photos, tmp_path / name, steps=30, learning_rate=3e-3, warmup_steps=1)
        words += ["--model", EVEN.name, "--data.degradation", "mild", "--data.negative-probability", "0", *taught]
        words += ["--taught.teacher", str(grey), "--loop.ema-decay", "0"]
        words += ["--truth-weight", weights[0], "--distill-weight", weights[1]]
        assert main(words) == 0
        results[name] = GenDRPixPipeline.from_pretrained(tmp_path / name / "weights/gendr-pix")
    x = next(open_training_crops(DataConfig(folder=photos, crop_px=32, degradation="mild"), 0).samples(0, 1)).lq[None]
    levels = {name: restorer.restore(x).abs().mean() for name, restorer in results.items()}
    assert levels["teacher"] < 0.8 * levels["truth"]

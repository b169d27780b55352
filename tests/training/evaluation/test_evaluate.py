"""Evaluation: figures against direct computation, intervals against loops, and what does not fit is said."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendrpix.comparison import comparison
from gendrpix.image.read import open_picture
from gendrpix.image.resize import resize
from gendrpix.image.write import to_pil
from gendrpix.metrics.grid import grid_score
from gendrpix.restore.pipelines import load_restorer
from gendrpix.specs import Box
from tests.helpers.models import TINY, save_tiny_family
from training.__main__ import main
from training.data.degradation import degrade
from training.data.degradation_presets import find_preset
from training.data.photos import PhotoFolder
from training.evaluation.config import EvaluateConfig
from training.evaluation.datasets import Degrading, degraded_dataset, held_out_dataset, paired_dataset, photo_dataset
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import find_crop, pick_pictures, plot_intervals
from training.evaluation.report import METHOD, incomplete_notes, summary_table
from training.evaluation.statistics import Row, differences, mean_interval, summarise

FAST = ("psnr", "ssim", "grid")
"""Metrics that need neither weights nor much time."""


def write_photos(folder: Path, sizes: dict[str, tuple[int, int]], seed: int = 0) -> Path:
    """Seeded pictures with edges and texture, (width, height) by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name, (width, height) in sizes.items():
        rows, columns = np.mgrid[0:height, 0:width]
        stripes = 60 * np.sin(columns / rng.uniform(2, 6)) + 50 * np.sign(np.sin(rows / rng.uniform(5, 9)))
        pixels = 128 + stripes[..., None] + rng.normal(0, 8, (height, width, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def write_pairs(folder: Path, names: tuple[str, ...] = ("a", "b"), lq_px: int = 20) -> Path:
    write_photos(folder / "hq", dict.fromkeys(names, (4 * lq_px, 4 * lq_px)))
    write_photos(folder / "lq", dict.fromkeys(names, (lq_px, lq_px)))
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def array_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(np.float64)


def psnr_of(a: np.ndarray, b: np.ndarray) -> float:
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return 10 * math.log10(255**2 / np.mean(((a - b) @ weights) ** 2))


def make_row(restorer: str, picture: str, missing: dict[str, str] | None = None, **values: float) -> Row:
    return Row(
        restorer=restorer,
        label=restorer.title(),
        picture=picture,
        width_px=64,
        height_px=64,
        degradation="",
        seconds=0.5,
        peak_bytes=10**6,
        device="cpu",
        dtype="float32",
        values=values,
        missing=missing or {},
    )


# Intervals ---------------------------------------------------------------------------------------------------------


def test_the_interval_follows_its_definition() -> None:
    values = [1.0, 4.0, 2.5, 9.0, 3.5]
    half = 2.776445 * np.std(values, ddof=1) / math.sqrt(5)  # t of 4 degrees of freedom, from a printed table
    found = mean_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), rel=1e-5)


@pytest.mark.parametrize("num_pictures", [5, 6, 10, 20, 100])
def test_a_95_percent_interval_holds_the_true_mean_in_95_percent_of_the_cases(num_pictures: int) -> None:
    drawn = np.random.default_rng(0).normal(27, 3, (2000, num_pictures))
    held = [found.low <= 27 <= found.high for found in map(mean_interval, drawn)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)  # three standard errors of 2,000 draws


def test_the_interval_agrees_with_the_normal_one_for_many_pictures() -> None:
    values = np.random.default_rng(0).normal(27, 3, 400)
    half = 1.96 * values.std() / math.sqrt(400)
    found = mean_interval(values.tolist())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


@pytest.mark.parametrize("num_pictures", [1, 4])
def test_few_pictures_have_no_interval_and_none_is_an_error(num_pictures: int) -> None:
    few = mean_interval([3.0, 5.0, 2.0, 2.0][:num_pictures])
    assert few.mean == 3.0 and math.isnan(few.low) and few.to_text(2) == "3.00 [–]"
    assert few.to_dict() == {"mean": 3.0, "low": None, "high": None, "num_pictures": num_pictures}
    assert "none (–) below 5 pictures" in METHOD[0]
    with pytest.raises(ValueError, match="score at least one picture"):
        mean_interval([])


def test_differences_are_paired_by_picture() -> None:
    rows = [make_row("old", str(i), psnr=float(i)) for i in range(20)]
    rows += [make_row("new", str(i), psnr=i + 0.5) for i in reversed(range(20))]
    found = differences(rows, "old")["new"]["psnr"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    spread = summarise(rows)["new"]["psnr"]
    assert spread.high - spread.low > 3  # the pictures differ far more than the two restorers
    with pytest.raises(ValueError, match="expected one of old, new"):
        differences(rows, "missing")


def test_a_metric_missing_for_some_pictures_is_averaged_over_the_others_and_said() -> None:
    reason = "NIQE needs at least 192 pixels a side; the picture has 64 x 64."
    rows = [make_row("one", "a", niqe=4.0), make_row("one", "b", missing={"niqe": reason})]
    assert summarise(rows)["one"]["niqe"].num_pictures == 1
    assert incomplete_notes(rows) == [f"{reason} (on 1 of 2 pictures)"]
    assert summary_table(rows, {"niqe": "NIQE ↓"}).rows == (("One", "4.00 [–]", "500 ms", "1 MB"),)


# Cases -------------------------------------------------------------------------------------------------------------


def test_truths_are_cropped_to_the_scale_and_degraded_by_seed_and_number(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, {"a": (66, 49), "b": (40, 43)})
    dataset = degraded_dataset(photos, Degrading(degradation="mild", seed=3))
    second = dataset.open("b")
    expected = open_picture(photos / "b.png").color[..., :40, :40]
    assert torch.equal(second.truth.color, expected)
    assert torch.equal(second.photo.color, degrade(expected, find_preset("mild"), 3, 1))
    assert second.photo.color.shape[-2:] == (10, 10)
    assert torch.equal(dataset.spread(1).only({"a"}).open("a").photo.color, dataset.open("a").photo.color)


def test_held_out_photos_are_those_that_training_does_not_see_and_may_be_cropped(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, dict.fromkeys("abcdefghij", (100, 90)))
    seen = {path.stem for path in PhotoFolder(photos, part="train").paths}
    dataset = held_out_dataset(photos, Degrading(degradation="bicubic", most_px=70))
    assert set(dataset.loaders) == set("abcdefghij") - seen and len(dataset) == 1
    (case,) = dataset
    whole = open_picture(photos / f"{case.name}.png").color
    assert torch.equal(case.truth.color, whole[..., 11:79, 16:84])
    assert "the middle 70 px" in dataset.label
    config = EvaluateConfig(
        out=tmp_path / "out", held_out=photos, most_px=64, restorers=("bicubic",), metrics=FAST, crops=0
    )
    evaluate(config)
    assert {(row["picture"], row["width_px"]) for row in rows_of(tmp_path / "out")} == {(case.name, "64")}
    with pytest.raises(ValueError, match="most_px is -1"):
        dataclasses.replace(config, most_px=-1)


def test_a_subset_is_spread_over_the_names(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, dict.fromkeys("abcdefgh", (8, 8)))
    dataset = photo_dataset(photos)
    assert list(dataset.spread(4).loaders) == ["a", "c", "e", "g"]
    assert len(dataset.spread(0)) == len(dataset.spread(99)) == 8
    with pytest.raises(ValueError, match="0 for all"):
        dataset.spread(-1)


def test_pairs_must_have_the_same_names_and_sizes_that_fit(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path)
    (folder / "lq" / "b.png").rename(folder / "lq" / "c.png")
    with pytest.raises(ValueError, match="1 of 2 pictures in lq have no partner in hq: c; give both the same name"):
        paired_dataset(folder)
    (folder / "lq" / "c.png").rename(folder / "lq" / "b.png")
    with pytest.raises(ValueError, match=r"The pair a has an input of 20 x 20 .* at scale 3 .* 60 x 60"):
        paired_dataset(folder, scale=3).open("a")
    (folder / "hq" / "b.png").unlink()
    with pytest.raises(ValueError, match="no partner in hq: b"):
        paired_dataset(folder)
    with pytest.raises(ValueError, match="has no folder lq"):
        paired_dataset(folder / "hq")


# The whole ---------------------------------------------------------------------------------------------------------


def test_bicubic_and_ready_outputs_get_the_figures_computed_by_hand(tmp_path: Path) -> None:
    truths = write_photos(tmp_path / "truths", {"a": (80, 72), "b": (64, 64)})
    outputs = write_photos(tmp_path / "peer", {"a": (80, 72), "b": (64, 64)}, seed=5)
    config = EvaluateConfig(
        out=tmp_path / "out",
        truths=truths,
        restorers=(),
        outputs=(f"Peer={outputs}",),
        metrics=FAST,
        crops=2,
        crop_px=32,
    )
    assert evaluate(config) == tmp_path / "out" / "scores.md"
    rows = {(row["restorer"], row["picture"]): row for row in rows_of(tmp_path / "out")}
    assert [key[0] for key in rows] == ["truth", "bicubic", "Peer"] * 2
    for name in "ab":
        truth = array_of(truths / f"{name}.png")
        assert float(rows["Peer", name]["psnr"]) == pytest.approx(
            psnr_of(array_of(outputs / f"{name}.png"), truth), abs=1e-3
        )
        small = degrade(open_picture(truths / f"{name}.png").color, find_preset("bicubic"), 0, 0)
        enlarged = np.asarray(to_pil(resize(small, *truth.shape[:2]))).astype(np.float64)
        assert float(rows["bicubic", name]["psnr"]) == pytest.approx(psnr_of(enlarged, truth), abs=1e-3)
        assert rows["truth", name]["psnr"] == ""
        grid = grid_score(open_picture(truths / f"{name}.png").color)
        assert float(rows["truth", name]["grid"]) == pytest.approx(grid)
    document = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    own = [float(rows["Peer", name]["psnr"]) for name in "ab"]
    assert document["summary"]["Peer"]["psnr"]["mean"] == pytest.approx(np.mean(own))
    assert document["against"] == "bicubic" and "psnr" in document["differences"]["Peer"]
    assert str(tmp_path) not in json.dumps(document)  # folders by name only
    assert Image.open(tmp_path / "out" / "crops.png").width > 3 * 256
    assert (tmp_path / "out" / "intervals.png").stat().st_size > 1000


def test_restorers_run_on_pairs_as_the_pipelines_do(tmp_path: Path) -> None:
    weights = save_tiny_family(tmp_path / "tiny")
    pairs = write_pairs(tmp_path / "pairs")
    config = EvaluateConfig(
        out=tmp_path / "out",
        pairs=pairs,
        weights=str(weights),
        restorers=("lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*"),
        guidance=(1.0, 1.5),
        metrics=FAST,
        device="cpu",
        crops=0,
        save_results=True,
    )
    evaluate(config)
    rows = rows_of(config.out)
    names = ["truth", "bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix@1", "gendr-pix@1.5", "gendr-pix*"]
    assert [row["restorer"] for row in rows] == names * 2
    pipeline = load_restorer("gendr-pix", weights)
    for name, guidance in (("gendr-pix@1.5", 1.5), ("gendr-pix-star", None)):
        expected = pipeline(pairs / "lq" / "b.png", guidance=guidance).images[0]
        kept = Image.open(config.out / "results" / name / "b.png")
        assert np.array_equal(np.asarray(kept), np.asarray(expected))
    timed = [row for row in rows if row["restorer"].startswith("gendr")]
    assert all(float(row["seconds"]) > 0 and int(row["peak_bytes"]) >= 0 for row in timed)
    assert {row["dtype"] for row in timed} == {"float32"}
    document = json.loads((config.out / "scores.json").read_text(encoding="utf-8"))
    assert document["against"] == "gendr" and len(document["weights_sha256"]["gendr-pix*"]) == 12
    text = (config.out / "scores.md").read_text(encoding="utf-8")
    assert "GenDR-Pix (ω 1.5)" in text and "cpu (1 thread), float32" in text and "Minus GenDR" in text
    assert not (config.out / "crops.png").exists()


def test_every_size_is_warmed_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = save_tiny_family(tmp_path / "tiny", ("gendr-pix",))
    photos = write_photos(tmp_path / "photos", {"a": (16, 16), "b": (16, 16), "c": (24, 16)})
    warmups = []
    timed = comparison.timed

    def recorded(fn, device, *, warmup, repeats):
        warmups.append(warmup)
        return timed(fn, device, warmup=warmup, repeats=repeats)

    monkeypatch.setattr(comparison, "timed", recorded)
    evaluate(
        EvaluateConfig(
            out=tmp_path / "out",
            photos=photos,
            weights=str(weights),
            restorers=("gendr-pix*",),
            metrics=("grid",),
            crops=1,
        )
    )
    assert warmups[:3] == [1, 0, 1]
    assert {row["psnr"] for row in rows_of(tmp_path / "out") if "psnr" in row} == set()


def test_a_metric_without_weights_is_skipped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "no-hub"))
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path / "no-hub" / "pyiqa"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    names = ("lpips", "dists", "musiq", "clipiqa", "maniqa")
    config = EvaluateConfig(
        lpips_net="alex",
        out=tmp_path / "out",
        pairs=write_pairs(tmp_path / "pairs", lq_px=60),
        restorers=(),
        metrics=("psnr", *names),
        crops=0,
    )
    text = evaluate(config).read_text(encoding="utf-8")
    for label in ("LPIPS", "DISTS", "MUSIQ", "CLIPIQA", "MANIQA (PIPAL)"):
        assert f"- {label} is not available: its weights could not be downloaded (HF_HUB_OFFLINE is set)." in text
    rows = rows_of(config.out)
    assert all(row[name] == "" for row in rows for name in names)
    assert all(row["psnr"] for row in rows if row["restorer"] == "bicubic")


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    peer = write_photos(tmp_path / "peer", {"a": (80, 80)})
    plain = {"out": tmp_path / "out", "pairs": pairs, "restorers": (), "metrics": FAST, "crops": 0}
    refusals = {
        "Peer lacks 1 of 2 results": {"outputs": (f"Peer={peer}",)},
        "--outputs got 'peer'; expected NAME=PLACE": {"outputs": ("peer",)},
        "name 'Bicubic', which is taken": {"outputs": (f"Bicubic={peer}",)},
        "--against is 'gendr'; expected one of bicubic": {"against": "gendr"},
        "gendr-pix needs --guidance": {"restorers": ("gendr-pix",), "guidance": ()},
        "Unknown metric 'psnr-y'": {"metrics": ("psnr-y",)},
        "No weights at": {"restorers": ("gendr",), "weights": str(tmp_path / "nowhere")},
    }
    for message, changes in refusals.items():
        with pytest.raises(ValueError, match=message):
            evaluate(EvaluateConfig(**{**plain, **changes}))
        assert not (tmp_path / "out").exists()
    with pytest.raises(
        ValueError, match="exactly one of --truths, --held-out, --pairs and --photos; got truths and pairs"
    ):
        EvaluateConfig(out=tmp_path, truths=peer, pairs=pairs)
    evaluate(EvaluateConfig(**plain, outputs=(f"Peer={peer}",), common=True))
    assert {row["picture"] for row in rows_of(tmp_path / "out")} == {"a"}
    with pytest.raises(ValueError, match="exists already"):
        evaluate(EvaluateConfig(**plain))


def test_a_result_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    peer = write_photos(tmp_path / "peer", {"a": (80, 80), "b": (76, 80)})
    config = EvaluateConfig(
        out=tmp_path / "out", pairs=pairs, restorers=(), outputs=(f"Peer={peer}",), metrics=("psnr",), crops=0
    )
    with pytest.raises(ValueError, match=r"Peer's result b.png has 76 x 80 pixels; expected 80 x 80"):
        evaluate(config)
    assert [row["picture"] for row in rows_of(config.out)].count("a") == 3  # what was done is kept


# To look at --------------------------------------------------------------------------------------------------------


def test_the_worst_pictures_are_shown_and_the_best_one(tmp_path: Path) -> None:
    rows = [make_row("one", f"p{i}", psnr=20.0 + i) for i in range(10)]
    shown = pick_pictures(rows, "one", 4)
    assert list(shown) == ["p0", "p1", "p5", "p9"]
    assert shown["p0"] == "worst 1: PSNR-Y 20.00"
    ranked = [make_row("one", f"p{i}", psnr=20.0, lpips=0.1 * i) for i in range(3)]
    assert next(iter(pick_pictures(ranked, "one", 1))) == "p2"  # lower LPIPS is better


def test_the_crop_is_where_the_error_is() -> None:
    truth = torch.zeros(1, 3, 64, 96)
    result = truth.clone()
    result[..., 40:56, 72:88] = 0.5
    crop = find_crop(result, truth, 16)
    assert crop == Box(72, 40, 16, 16)
    assert find_crop(result, None, 500).width == 64


def test_the_figure_has_a_panel_for_each_metric() -> None:
    rows = [make_row(name, str(i), psnr=20.0 + i, grid=float(i)) for name in ("one", "two") for i in range(3)]
    figure = plot_intervals(rows, {"psnr": "PSNR-Y, dB ↑", "grid": "Grid"}, "set")
    assert [panel.get_title() for panel in figure.axes] == ["PSNR-Y, dB ↑", "Grid"]
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_intervals([make_row("one", "a")], {}, "set")


def test_whoever_has_no_figures_has_no_line() -> None:
    rows = [make_row("one", "a", psnr=20.0), dataclasses.replace(make_row("truth", "a"), seconds=None)]
    assert [line[0] for line in summary_table(rows, {"psnr": "PSNR-Y"}).rows] == ["One"]
    assert differences(rows, "one") == {}


def test_the_commands_write_tables_and_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truths = write_photos(tmp_path / "photos", {"a": (128, 128), "b": (136, 128), "c": (128, 144)})
    words = ["evaluate", "--truths", str(truths), "--out", str(tmp_path / "out"), "--restorers", "lanczos"]
    assert main([*words, "--metrics", "psnr", "--degradation", "mild", "--pictures", "2", "--crops", "1"]) == 0
    assert {row["restorer"] for row in rows_of(tmp_path / "out")} == {"truth", "bicubic", "lanczos"}
    assert main([*words, "--metrics", "psnr"]) == 1
    assert "exists already" in capsys.readouterr().err
    sheet = ["preview", "--data.folder", str(truths), "--data.degradation", "mild", "--out", str(tmp_path / "s.png")]
    assert main([*sheet, "--count", "2", "--pairs", str(tmp_path / "pairs")]) == 0
    assert Image.open(tmp_path / "s.png").width == 3 * 128 + 4 * 4
    assert [case.name for case in paired_dataset(tmp_path / "pairs", scale=4)] == ["000000", "000001"]
    assert main(sheet) == 1
    assert main(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out


def test_each_attention_is_a_line_and_runs_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """96 pixels are 12 positions, more than the tiny family's 8: "window" and "full" differ, "auto" is "window"."""
    monkeypatch.setattr("gendrpix.restore.network.MODEL_SPECS", {TINY.name: TINY})
    weights = save_tiny_family(tmp_path / "tiny", ("gendr-pix",))
    config = EvaluateConfig(
        out=tmp_path / "out",
        photos=write_photos(tmp_path / "photos", {"a": (24, 24)}),
        weights=str(weights),
        restorers=("gendr-pix*",),
        attention=("full", "window", "auto"),
        metrics=("grid",),
        crops=0,
        save_results=True,
    )
    evaluate(config)
    kinds = {}
    for kind in config.attention:
        kinds[kind] = array_of(tmp_path / "out" / "results" / "gendr-pix-star" / kind / "a.png")
    assert (kinds["full"] != kinds["window"]).any() and (kinds["auto"] == kinds["window"]).all()
    assert [row["restorer"] for row in rows_of(config.out)][1:] == [f"gendr-pix*/{kind}" for kind in config.attention]
    assert ", window |" in (config.out / "scores.md").read_text(encoding="utf-8")

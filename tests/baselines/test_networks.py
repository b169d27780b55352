"""Networks of others from ncnn's files, and the published figures of others' results where those are at hand."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gendrpix.baselines.ncnn_files import NcnnNetwork
from gendrpix.image.read import open_picture
from gendrpix.metrics.scorer import Scorer
from tests.training.evaluation.test_evaluate import FAST, array_of, rows_of, write_pairs, write_photos
from training.evaluation.config import EvaluateConfig
from training.evaluation.evaluate import evaluate

ENLARGES = """7767517
3 3
Input            in                       0 1 data
Interp           enlarge                  1 1 data grown 0=1 1=4.000000e+00 2=4.000000e+00
Power            halve                    1 1 grown output 0=1.000000e+00 1=5.000000e-01 2=1.000000e-01
"""
"""Every pixel four times in both directions, then 0.5 x + 0.1 in [0, 1]. No weights."""

pytest.importorskip("ncnn", reason="pip install -r requirements-peers.txt")


def write_network(folder: Path, text: str = ENLARGES, weights: bytes = b"\0\0\0\0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(weights)
    (folder / "model.param").write_text(text, encoding="utf-8")
    return folder / "model.param"


def test_a_network_of_ncnn_reads_and_writes_zero_to_one(tmp_path: Path) -> None:
    network = NcnnNetwork(write_network(tmp_path))
    pixels = torch.rand(1, 3, 5, 7) * 2 - 1
    result = network(pixels)
    grown = ((pixels + 1) / 2).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    assert result.shape == (1, 3, 20, 28)
    assert torch.allclose(result, (0.5 * grown + 0.1) * 2 - 1, atol=2e-3)  # half precision inside
    assert torch.equal(network(pixels), result)


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.param is missing; a network of ncnn is MODEL.param with MODEL.bin"):
        NcnnNetwork(tmp_path / "model.param")
    with pytest.raises(ValueError, match=r"does not begin as ncnn's files do"):
        NcnnNetwork(write_network(tmp_path / "broken", "no network at all"))
    two = ENLARGES.replace("3 3", "4 4") + "Input            more                     0 1 unused\n"
    with pytest.raises(ValueError, match="expected one picture in, one out"):
        NcnnNetwork(write_network(tmp_path / "two", two))


def test_a_network_of_others_is_run_timed_and_kept_by_an_evaluation(tmp_path: Path) -> None:
    param = write_network(tmp_path / "network")
    pairs = write_pairs(tmp_path / "pairs")
    config = EvaluateConfig(
        out=tmp_path / "out",
        pairs=pairs,
        restorers=(),
        baselines=(f"half={param}",),
        metrics=FAST,
        crops=0,
        save_results=True,
    )
    evaluate(config)
    rows = [row for row in rows_of(config.out) if row["restorer"] == "half"]
    assert len(rows) == 2 and all(float(row["seconds"]) > 0 for row in rows)
    small = array_of(pairs / "lq" / "a.png")
    expected = np.rint(0.5 * small + 25.5).repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(array_of(config.out / "results" / "half" / "a.png") - expected).max() <= 1
    assert str(tmp_path) not in (config.out / "scores.json").read_text(encoding="utf-8")
    again = EvaluateConfig(
        out=tmp_path / "again",
        pairs=pairs,
        restorers=(),
        outputs=(f"half={config.out / 'results' / 'half'}",),
        metrics=FAST,
        crops=0,
    )
    evaluate(again)  # what was kept scores the same
    figures = [[row[name] for name in FAST] for row in rows_of(again.out) if row["restorer"] == "half"]
    assert figures == [[row[name] for name in FAST] for row in rows]


def test_a_network_of_another_factor_is_resized_and_a_taken_name_is_refused(tmp_path: Path) -> None:
    param = write_network(tmp_path / "network", ENLARGES.replace("4.000000e+00", "2.000000e+00"))
    pairs = write_pairs(tmp_path / "pairs")
    plain = {"pairs": pairs, "restorers": (), "metrics": ("psnr",), "crops": 0}
    words = (f"half={param}",)
    evaluate(EvaluateConfig(out=tmp_path / "one", baselines=words, save_results=True, **plain))
    assert array_of(tmp_path / "one/results/half/a.png").shape[:2] == (80, 80)
    outputs = write_photos(tmp_path / "peer", dict.fromkeys("ab", (80, 80)))
    with pytest.raises(ValueError, match="--outputs got the name 'Half', which is taken"):
        evaluate(EvaluateConfig(out=tmp_path / "two", baselines=words, outputs=(f"Half={outputs}",), **plain))
    with pytest.raises(ValueError, match="--baselines got 'half'; expected NAME=PLACE"):
        evaluate(EvaluateConfig(out=tmp_path / "three", baselines=("half",), **plain))


# Published figures -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_published_figures_are_reproduced_from_published_results() -> None:
    """OSEDiff's own table of its results, picture by picture: PSNR-Y, SSIM-Y and NIQE, which need no large trunk.

    GENDRPIX_PUBLISHED holds three paths joined as in PATH: its results, their ground truths, its table. They are no
    part of the project: docs/results/evaluation.md.
    """
    if not (places := os.environ.get("GENDRPIX_PUBLISHED")):
        pytest.skip("GENDRPIX_PUBLISHED names no results, truths and table")
    results, truths, table = map(Path, places.split(os.pathsep))
    scorer = Scorer(("psnr", "ssim", "niqe"))
    if reason := scorer.unavailable("niqe"):
        pytest.skip(reason)
    with table.open(encoding="utf-8", newline="") as file:
        published = {row["file"]: row for row in csv.DictReader(file)}
    columns = {"psnr": ("psnr_y", 1e-4), "ssim": ("ssim_y", 1e-5), "niqe": ("niqe", 0.01)}
    worst = dict.fromkeys(columns, 0.0)
    files = sorted(results.glob("*.png"))
    assert files
    for path in files:
        image, truth = (open_picture(one).color for one in (path, truths / path.name))
        values = scorer.score(image, truth).values
        for name, (column, _) in columns.items():
            worst[name] = max(worst[name], abs(values[name] - float(published[path.name][column])))
    print(f"{len(files)} pictures, largest deviations: {worst}")
    assert all(worst[name] <= allowed for name, (_, allowed) in columns.items()), worst

"""Judging photos without a truth: figures against SciPy, what they see, sheets at full size, and what is refused."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter

from gendrpix.image.read import open_picture
from gendrpix.image.resize import resize
from gendrpix.image.write import to_pil
from gendrpix.metrics.grid import grid_score
from gendrpix.metrics.scorer import Scorer
from tests.helpers.models import save_tiny_family
from tests.training.evaluation.test_evaluate import write_photos
from training.__main__ import main
from training.evaluation.judge.config import JudgeConfig
from training.evaluation.judge.figures import detail_distance, find_calm, luma_of, medians, noise_level
from training.evaluation.judge.judge import judge, read_groups
from training.evaluation.judge.methods import split_restorer

SIZES = {"a": (24, 20), "b": (17, 30), "wide": (280, 18)}


@pytest.fixture
def config(tmp_path: Path) -> JudgeConfig:
    """Three photos, tiny weights, two folders of finished results, one of them the reference."""
    large = {name: (4 * width, 4 * height) for name, (width, height) in SIZES.items()}
    return JudgeConfig(
        out=tmp_path / "out",
        photos=write_photos(tmp_path / "real", SIZES),
        weights=(f"ours={save_tiny_family(tmp_path / 'tiny', ('gendr-pix',))}",),
        outputs=(
            f"peer={write_photos(tmp_path / 'peer', large, 1)}",
            f"sharp={write_photos(tmp_path / 'sharp', large, 2)}",
        ),
        reference="sharp",
        cache=tmp_path / "cache",
        metrics=("grid",),
        device="cpu",
    )


def seeded(height: int = 96, width: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (height, width))


# Figures -----------------------------------------------------------------------------------------------------------


def test_noise_and_distance_follow_their_formulas() -> None:
    """SciPy's box filter, mirrored about the edge pixel, and plain loops over the blocks."""
    height, width = 100, 83  # the last blocks are incomplete
    ramp = np.linspace(0.05, 1, height)[:, None]
    reference, result = 128 + (seeded(height, width) - 128) * ramp, seeded(height, width, seed=1)
    blocks = [
        (reference[top : top + 16, left : left + 16].std(), top, left)
        for top in range(0, height - 15, 16)
        for left in range(0, width - 15, 16)
    ]
    calmest = sorted(blocks)[: round(len(blocks) / 5)]
    deviation = np.abs(result - uniform_filter(result, 5, mode="mirror"))
    expected = np.mean([deviation[top : top + 16, left : left + 16].mean() for _, top, left in calmest])
    calm = find_calm(torch.from_numpy(reference))
    assert int(calm.sum()) == 6 and len(blocks) == 30
    assert noise_level(torch.from_numpy(result), calm) == pytest.approx(expected, rel=1e-12)
    flat = (one - uniform_filter(one, 65, mode="mirror") for one in (result, reference))
    expected = np.abs(next(flat) - next(flat)).mean()
    assert detail_distance(torch.from_numpy(result), torch.from_numpy(reference)) == pytest.approx(expected, rel=1e-12)


def test_planted_noise_is_found_at_its_strength() -> None:
    """Gaussian noise on a flat picture: sigma sqrt(24/25) sqrt(2/pi) is left of it after the 5 x 5 mean."""
    calm = torch.ones(16, 16, dtype=torch.bool)
    for sigma in (1.0, 4.0):
        noisy = 120 + sigma * torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).double()
        expected = sigma * math.sqrt(24 / 25 * 2 / math.pi)
        assert noise_level(noisy, calm) == pytest.approx(expected, rel=0.02)
    assert noise_level(torch.full((256, 256), 7.0).double(), calm) < 1e-9


def test_noise_in_busy_places_does_not_count() -> None:
    reference = torch.full((64, 80), 100.0).double()
    reference[:, 16:] += torch.randn(64, 64, generator=torch.Generator().manual_seed(1)) * 40
    calm = find_calm(reference)
    assert calm.sum() == 4 and bool(calm[:, 0].all())
    noisy = reference.clone()
    noisy[:, 32:] += 50 * (torch.arange(48) % 2)
    assert noise_level(noisy, calm) == noise_level(reference, calm)


def test_a_shift_of_brightness_is_no_distance_and_a_pattern_is() -> None:
    reference = torch.from_numpy(seeded(130, 150))
    assert detail_distance(reference + 20, reference) < 1e-9
    board = (torch.arange(130)[:, None] + torch.arange(150)) % 2 * 12.0  # its 65 x 65 mean is 6 to 6 / 4225
    assert detail_distance(reference + board, reference) == pytest.approx(6, abs=0.01)
    assert detail_distance(reference, reference) == 0


def test_luma_is_that_of_bt601() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
    assert np.allclose(luma_of(Image.fromarray(pixels)).numpy(), expected)


def test_piqe_calls_noise_better_which_is_why_it_decides_nothing() -> None:
    small = open_picture(to_pil(torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1)).color
    smooth = resize(resize(small, 12, 12), 192, 192)
    noisy = smooth + torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1)) * 8 / 255
    scorer = Scorer(("piqe",))
    before, after = (scorer.score(one.clamp(-1, 1)).values["piqe"] for one in (smooth, noisy))
    assert after < before - 20


def test_a_metric_without_a_covariance_is_missing_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """NIQE inverts a covariance, which a smooth picture may not have; NumPy and torch raise errors of their own."""

    def singular(image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(torch.zeros(2, 2))

    def singular_too(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.linalg.inv(np.zeros((2, 2))))

    for metric in (singular, singular_too):
        monkeypatch.setattr(Scorer, "_load", lambda self, name, metric=metric: metric)
        scores = Scorer(("niqe",)).score(torch.zeros(1, 3, 200, 200))
        assert not scores.values and "NIQE is not defined for this picture" in scores.missing["niqe"]


# The command -------------------------------------------------------------------------------------------------------


def test_figures_page_and_sheets_are_those_of_the_saved_pictures(config: JudgeConfig, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text("name,group\na,faces\nwide,text\na,text\n", encoding="utf-8")
    page = judge(dataclasses.replace(config, groups=groups))
    with (config.out / "judge.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["photo"], row["method"]) for row in rows] == [
        (photo, method) for photo in SIZES for method in ("bicubic", "ours", "peer", "sharp")
    ]
    peer = open_picture(tmp_path / "peer" / "a.png").color
    luma, goal = (luma_of(Image.open(tmp_path / name / "a.png")) for name in ("peer", "sharp"))
    row = next(row for row in rows if (row["photo"], row["method"]) == ("a", "peer"))
    assert float(row["noise"]) == noise_level(luma, find_calm(goal)) and row["groups"] == "faces;text"
    assert float(row["distance"]) == detail_distance(luma, goal) and float(row["grid"]) == grid_score(peer)
    document = json.loads((config.out / "judge.json").read_text(encoding="utf-8"))
    own = sorted(float(row["noise"]) for row in rows if row["method"] == "ours")
    assert document["medians"]["ours"]["noise"] == own[1] and document["groups"]["text"]["photos"] == ["wide", "a"]
    text = page.read_text(encoding="utf-8")
    assert f"| ours | {own[1]:.2f} |" in text and "## Group: text\n\nPhotos (2): wide, a.\n" in text
    assert "decide nothing" in text and str(tmp_path) not in text
    assert sorted(file.name for file in (config.out / "sheets").iterdir()) == ["a.png", "b.png", "wide.png"]
    sheet = np.asarray(Image.open(config.out / "sheets" / "a.png"))
    result = np.asarray(Image.open(tmp_path / "peer" / "a.png"))
    left = 8 + 2 * (96 + 8)
    assert np.array_equal(sheet[56 : 56 + 80, left : left + 96], result)  # pixel for pixel
    wide = Image.open(config.out / "sheets" / "wide.png")  # 1120 px: reduced, then crops of 256 at most
    assert wide.width <= 2100 and (config.out / "crops-1.webp").stat().st_size <= 2_000_000


def test_what_does_not_fit_is_refused_with_a_sentence(
    config: JudgeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, message in (
        ({"reference": "x4plus"}, "--reference is 'x4plus'; expected one of the methods: bicubic, ours, peer, sharp"),
        ({"vote": ("ours=bycubic",)}, "--vote got 'ours=bycubic'; expected OURS=OTHER"),
        ({"vote": ("ours=ours",)}, "--vote got 'ours=ours'; expected OURS=OTHER"),
        ({"weights": ("peer=mini",)}, "the name 'peer', which is taken"),
        ({"weights": ("ours=mini:gendr-fog",)}, "--weights got the restorer 'gendr-fog'; expected one of gendr, "),
        ({"groups": tmp_path / "none.csv"}, "none.csv is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(dataclasses.replace(config, **change))
    for change, message in (
        ({"photos": None}, "expected either --photos FOLDER or --count"),
        ({"count": (tmp_path,)}, "expected either --photos FOLDER or --count"),
        ({"crop_px": 512}, "crop_px is 512"),
        ({"metrics": ("lpips",)}, "--metrics lpips needs a truth"),
    ):
        with pytest.raises(ValueError, match=f"(?i){message}"):
            dataclasses.replace(config, **change)
    write_photos(tmp_path / "real", {"tiny": (8, 30)})
    with pytest.raises(ValueError, match="tiny becomes 32 x 120 pixels; expected at least 64 a side"):
        judge(config)
    assert main(["judge", "--out", str(tmp_path / "o"), "--photos", str(tmp_path / "nowhere")]) == 1
    assert "error: " in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_an_earlier_page_is_kept_unless_told(config: JudgeConfig) -> None:
    judge(config)
    before = (config.out / "judge.csv").read_bytes()
    with pytest.raises(ValueError, match=r"judge.json exists already; choose another --out or pass --overwrite"):
        judge(config)
    judge(dataclasses.replace(config, overwrite=True))
    assert (config.out / "judge.csv").read_bytes() == before


def test_groups_must_name_photos_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("name,group\nz,text\n", encoding="utf-8")
    with pytest.raises(ValueError, match="names 'z', which is no photo here"):
        read_groups(file, ["a"])
    file.write_text("photo,kind\na,text\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has the columns photo, kind; expected name and group"):
        read_groups(file, ["a"])


def test_the_restorer_is_read_off_the_last_colon() -> None:
    assert split_restorer("mini") == ("mini", "gendr-pix*")
    assert split_restorer("runs/x:gendr-adc") == ("runs/x", "gendr-adc")
    assert split_restorer("C:/weights") == ("C:/weights", "gendr-pix*")


def test_medians_leave_missing_figures_out() -> None:
    from training.evaluation.judge.figures import Judgement

    def row(photo: str, **values: float) -> Judgement:
        return Judgement(method="m", photo=photo, width_px=64, height_px=64, values=values, missing={})

    assert medians([row("a", noise=1, niqe=4), row("b", noise=3), row("c", noise=9, niqe=6)], ("noise", "niqe")) == {
        "m": {"noise": 3, "niqe": 5}
    }

"""A survey: the figures are the evaluations', finished sets are kept, a failed one costs no other, no path is shown."""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.models import save_tiny_family
from tests.training.evaluation.test_evaluate import FAST, write_pairs, write_photos
from training.__main__ import main
from training.evaluation.evaluate import evaluate
from training.studies import survey as module
from training.studies.config import SurveyConfig
from training.studies.survey import survey


@pytest.fixture
def config(tmp_path: Path) -> SurveyConfig:
    """Two truths under two degradations, two pairs, one real photo; tiny weights."""
    return SurveyConfig(
        out=tmp_path / "page",
        work=tmp_path / "work",
        truths=(write_photos(tmp_path / "Flowers", {"a": (80, 72), "b": (64, 64)}),),
        degradations=("bicubic", "mild"),
        pairs=(write_pairs(tmp_path / "cameras"),),
        photos=(write_photos(tmp_path / "real", {"old": (24, 20)}),),
        outputs=(f"whole={write_photos(tmp_path / 'w', dict.fromkeys('ab', (80, 80)))}",),
        weights=str(save_tiny_family(tmp_path / "tiny", ("gendr-adc", "gendr-pix"))),
        restorers=("lanczos", "gendr-adc", "gendr-pix", "gendr-pix*"),
        guidance=(1.0, 1.5),
        metrics=FAST,
        device="cpu",
        crops=1,
        crop_px=32,
    )


def test_the_page_shows_every_set_and_how_it_was_made(config: SurveyConfig, tmp_path: Path) -> None:
    page = survey(config)
    text = page.read_text(encoding="utf-8")
    names = ("flowers-bicubic", "flowers-mild", "cameras", "real")
    assert sorted(file.name for file in config.out.iterdir()) == sorted(["README.md", *(f"{n}.webp" for n in names)])
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Flowers, degraded x4 (bicubic, seed 0)",
        "## Flowers, degraded x4 (mild, seed 0)",
        "## cameras, pairs x4",
        "## real, x4, without truth",
    ]
    assert str(tmp_path) not in text and "--truths FLOWERS" in text and "--outputs whole=w" in text
    assert "gendr-adc `" in text and "cpu (1 thread), float32" in text and "Minus Bicubic" in text
    assert text.count("PSNR over R, G and B") == 1 and "- Flowers: PSNR over R, G and B" in text
    sections = dict(zip(names, text.split("\n## ")[1:], strict=True))
    assert "Peak memory" in sections["cameras"] and "| whole |" in sections["cameras"]
    assert "Peak memory" not in sections["flowers-mild"] and "whole" not in sections["flowers-mild"]
    document = json.loads((config.work / "cameras" / "scores.json").read_text(encoding="utf-8"))
    psnr = document["summary"]["gendr-pix@1.5"]["psnr"]["mean"]
    assert f"| GenDR-Pix (ω 1.5) | {psnr:.2f} |" in sections["cameras"]


def test_pictures_stay_within_their_weight(config: SurveyConfig) -> None:
    small = dataclasses.replace(config, picture_kb=24, restorers=("gendr-pix*",), truths=(), outputs=())
    survey(small)
    pictures = list(small.out.glob("*.webp"))
    assert len(pictures) == 2 and sum(file.stat().st_size for file in pictures) <= 24_000
    assert Image.open(pictures[0]).width > 256


def test_finished_sets_are_kept_until_something_changes(
    config: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def counted(settings, loaded):
        done.append(settings.out.name)
        return evaluate(settings, loaded)

    monkeypatch.setattr(module, "evaluate", counted)
    config = dataclasses.replace(config, degradations=("bicubic",), pairs=(), outputs=(), restorers=("gendr-adc",))
    first = survey(config).read_text(encoding="utf-8")
    assert done == ["flowers-bicubic", "real"]
    assert survey(config).read_text(encoding="utf-8") == first and len(done) == 2
    write_photos(tmp_path / "real", {"new": (24, 24)})
    survey(config)
    assert done[2:] == ["real"]
    index = tmp_path / "tiny" / "gendr-adc" / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # other files, other digest
    survey(config)
    assert len(done) == 3 + 2


def test_a_set_that_fails_is_said_and_the_others_are_shown(
    config: SurveyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cameras" / "lq" / "b.png").write_bytes(b"no picture")
    config = dataclasses.replace(config, truths=(), restorers=("lanczos",))
    with pytest.raises(ValueError, match=r"1 of 2 sets failed \(cameras: .*README.md shows the others"):
        survey(config)
    text = (config.out / "README.md").read_text(encoding="utf-8")
    assert "## cameras\n\nThis set could not be evaluated:" in text and "## real, x4" in text
    assert not (config.out / "cameras.webp").exists() and (config.out / "real.webp").exists()
    assert (config.work / "cameras" / "scores.csv").exists()  # what was done is kept
    words = ["survey", "--out", str(tmp_path / "p"), "--work", str(tmp_path / "w2"), "--photos", str(tmp_path / "none")]
    assert main([*words, "--restorers", "bicubic", "--metrics", "grid"]) == 1
    assert "'none' is not there; check the path" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()  # nothing to show, no page


def test_results_of_some_pictures_are_a_set_of_their_own(config: SurveyConfig, tmp_path: Path) -> None:
    some = write_photos(tmp_path / "some", {"b": (80, 80)})
    plain = {"truths": (), "photos": (), "restorers": ("gendr-pix*",)}
    survey(dataclasses.replace(config, outputs=(*config.outputs, f"some={some}"), **plain))
    document = json.loads((config.work / "cameras-some" / "scores.json").read_text(encoding="utf-8"))
    assert document["num_pictures"] == 1 and {"some", "whole"} <= set(document["summary"])
    whole = json.loads((config.work / "cameras" / "scores.json").read_text(encoding="utf-8"))
    assert whole["num_pictures"] == 2 and "some" not in whole["summary"]
    with pytest.raises(ValueError, match="for none of the pairs and photos"):
        survey(dataclasses.replace(config, outputs=(f"none={write_photos(tmp_path / 'n', {'z': (8, 8)})}",), **plain))


def test_what_cannot_be_surveyed_is_refused_at_once(tmp_path: Path) -> None:
    places = {"out": tmp_path / "page", "work": tmp_path / "work"}
    with pytest.raises(ValueError, match="nothing to evaluate"):
        SurveyConfig(**places)
    with pytest.raises(ValueError, match="--truths need --degradations"):
        SurveyConfig(**places, truths=(tmp_path,), degradations=())
    with pytest.raises(ValueError, match="fog"):
        SurveyConfig(**places, truths=(tmp_path,), degradations=("fog",))

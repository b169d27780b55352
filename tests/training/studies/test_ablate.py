"""The ablation: what is trained and how, verdicts against counts by hand, both files, and going on after a stop."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from tests.helpers.models import save_tiny_family
from tests.helpers.stages import make_photos
from training.__main__ import main
from training.config import DataConfig, PixConfig
from training.evaluation.statistics import Interval, Row
from training.stages import pix
from training.studies import ablate
from training.studies.ablate import STUDENTS, TABLES, AblateConfig, advantages, decide, decide_all, student_config


def row(name: str, picture: int, **values: float) -> Row:
    return Row(
        restorer=name,
        label=name,
        picture=str(picture),
        width_px=8,
        height_px=8,
        degradation="",
        seconds=None,
        peak_bytes=None,
        device="cpu",
        dtype="float32",
        values=values,
        missing={},
    )


# Verdicts -------------------------------------------------------------------------------------------------------------


def test_advantages_are_paired_and_turned_into_the_claims_direction() -> None:
    hardness = [10.0, 50.0, 30.0, 20.0, 40.0]
    better = [row("a", n, piqe=h - 1, psnr=h + 2) for n, h in enumerate(hardness)]
    worse = [row("b", n, piqe=h, psnr=h) for n, h in enumerate(hardness)][::-1]
    gains = advantages(better, worse, ("piqe", "psnr", "niqe"))
    assert set(gains) == {"piqe", "psnr"}, "what nobody has is left out"
    for metric, gain in (("piqe", 1.0), ("psnr", 2.0)):
        assert (gains[metric].mean, gains[metric].low, gains[metric].high) == (gain, gain, gain)
        assert decide(gains[metric]) == "holds"
    against = advantages(worse, better, ("piqe",))["piqe"]
    assert against.mean == -1 and decide(against) == "does not hold"
    mixed = [row("a", n, piqe=h + (-1) ** n) for n, h in enumerate(hardness)]
    assert decide(advantages(mixed, worse, ("piqe",))["piqe"]) == "undecided"


def test_one_picture_decides_nothing() -> None:
    alone = advantages([row("a", 0, piqe=1)], [row("b", 0, piqe=9)], ("piqe",))["piqe"]
    assert decide(alone) == "undecided"
    assert decide(Interval(mean=1, low=0, high=2, num_pictures=3)) == "undecided"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds", "undecided"], "holds"),
        (["does not hold", "undecided"], "does not hold"),
        (["holds", "does not hold"], "undecided"),
        (["undecided"], "undecided"),
        ([], "undecided"),
    ],
)
def test_a_claim_over_several_metrics(verdicts: list[ablate.Verdict], expected: str) -> None:
    assert decide_all(verdicts) == expected


# Students -------------------------------------------------------------------------------------------------------------


def test_students_differ_in_their_own_setting_alone(tmp_path: Path) -> None:
    family = save_tiny_family(tmp_path / "family")
    data = DataConfig(folder=tmp_path)
    config = AblateConfig(
        run=tmp_path / "run", data=data, budget=7, fit_crops=3, mixed_precision="bf16", weights=str(family)
    )
    students = {name: dataclasses.asdict(student_config(config, name)) for name in STUDENTS}
    for settings in students.values():
        settings["seed"] = settings["loop"].pop("seed")
    full = students[ablate.FULL]
    assert (full["backbone"], full["randpad"], full["mfs_weight"]) == ("adc", True, 0.1)
    for name, settings in students.items():
        changed = {key for key in full if settings[key] != full[key]} - {"run"}
        assert changed <= set(STUDENTS[name][1]) and (changed or name == ablate.FULL)
        assert (settings["loop"]["steps"], settings["loop"]["mixed_precision"], settings["fit_crops"]) == (7, "bf16", 3)
    assert students["again"]["seed"] == full["seed"] + 1
    assert students["no-mfs"]["mfs_weight"] == 0 and students["none"]["backbone"] == "none"


def test_every_line_names_a_student_and_claims_name_lines() -> None:
    for lines in TABLES.values():
        names = {line.name for line in lines}
        for line in lines:
            assert line.student in STUDENTS
            assert line.claim is None or set(line.claim) <= names
    assert {name for lines in TABLES.values() for name in (line.student for line in lines)} == set(STUDENTS)


# The command ----------------------------------------------------------------------------------------------------------


def words(tmp_path: Path, *options: str) -> list[str]:
    settings = {
        "--data": tmp_path / "photos",
        "--run": tmp_path / "run",
        "--weights": tmp_path / "family",
        "--data.crop-px": 32,
        "--data.num-workers": 0,
        "--budget": 1,
        "--batch": 2,
        "--model": "tiny",
        "--fit-crops": 4,
    }
    plain = [str(word) for pair in settings.items() for word in pair]
    return ["ablate", *plain, "--metrics", "psnr", "piqe", "grid", "--judged", "piqe", "grid", *options]


@pytest.mark.usefixtures("tiny")
def test_all_tables_and_going_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_family(tmp_path / "family")
    make_photos(tmp_path / "photos", count=30, side=64)
    trained: list[str] = []
    train = pix.train

    def stops_at_the_third(config: PixConfig) -> Path:
        trained.append(config.run.name)
        if len(trained) == 3:
            raise ValueError("the power is gone.")
        return train(config)

    monkeypatch.setattr(pix, "train", stops_at_the_third)
    assert main(words(tmp_path)) == 1 and "the power is gone" in capsys.readouterr().err
    assert main(words(tmp_path)) == 0, capsys.readouterr().err
    assert trained == ["none", "gendr", "adc", "adc", "adc-randpad", "no-mfs", "again"], (
        "what is finished is not done again"
    )
    trained.clear()
    assert main(words(tmp_path)) == 0 and not trained

    text = (tmp_path / "run/ablation.md").read_text()
    for expected in (
        "## Discriminator",
        "## Mfs",
        "## Guidance",
        "## Offsets",
        "MUSIQ 63.89, CLIPIQA .5937",
        "NIQE 4.84",
    ):
        assert expected in text
    assert "padcfg better than plain-cfg" in text and "one run a line" in text and "one other seed" in text
    with (tmp_path / "run/ablation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * sum(len(table) for table in TABLES.values())
    full = {line["metric"]: line for line in lines if line["line"] == "adc-randpad" and line["table"] == "mfs"}
    without = {line["metric"]: line for line in lines if line["line"] == "no-mfs"}
    gain = float(without["grid"]["mean"]) - float(full["grid"]["mean"])
    assert float(full["grid"]["advantage"]) == pytest.approx(gain)
    assert {line["verdict"] for line in lines} <= {"", "holds", "does not hold", "undecided"}
    assert list((tmp_path / "run/targets").glob("*/*.safetensors")), "the students share the teacher's targets"


@pytest.mark.usefixtures("tiny")
def test_a_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_family(tmp_path / "family")
    make_photos(tmp_path / "photos")
    assert main(words(tmp_path, "--tables", "guidance", "--budget", "1")) == 0
    assert main(words(tmp_path, "--tables", "guidance", "--budget", "2")) == 1
    assert "was begun with budget 1 and now gets 2" in capsys.readouterr().err


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown table 'colours'; expected some of discriminator"):
        AblateConfig(run=tmp_path, tables=("colours",))
    with pytest.raises(ValueError, match="musiq is judged, but not among the metrics"):
        AblateConfig(run=tmp_path, judged=("musiq",))

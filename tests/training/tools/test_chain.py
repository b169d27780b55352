"""The one command: from photos to restored pictures, killed and resumed; what it skips and what it refuses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import gendrpix.specs
from gendrpix.restore.pipelines import load_restorer
from tests.helpers.chains import chain_words, run_chain, start_chain, write_preset
from tests.helpers.models import EVEN, NARROW_SD21
from tests.helpers.pictures import photo
from tests.helpers.stages import make_photos
from training.config import TaughtConfig
from training.presets import PRESETS
from training.tools.chain_plan import make_plan, overlaid


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family with levels of one width, in the place of the others."""
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {EVEN.name: EVEN})


@pytest.mark.slow
@pytest.mark.usefixtures("even")
def test_from_photos_to_restored_pictures_killed_twice(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", count=30, side=96)
    words = chain_words(write_preset(tmp_path / "tiny.toml", steps=3), photos, tmp_path / "runs")
    for stage in ("finest", "adc"):  # killed while these stages train
        child = start_chain(words)
        while not list((tmp_path / "runs" / stage / "checkpoints").glob("step-*")):
            assert child.is_alive(), "its words are above"
            time.sleep(0.01)
        child.kill()
        child.join()
        assert not (tmp_path / "runs" / "pix" / "weights").exists()
    kept = (tmp_path / "runs/autoencoder/weights/autoencoder/config.json").stat().st_mtime_ns
    child = start_chain(words)
    child.join()
    assert child.exitcode == 0, "its words are above"
    assert (tmp_path / "runs/autoencoder/weights/autoencoder/config.json").stat().st_mtime_ns == kept
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        restored = load_restorer(name, tmp_path / "runs/bundle")(photo(11, 9), scale=4.0, output_type="pt").images
        assert restored.shape == (1, 3, 36, 44) and restored.isfinite().all()
    assert {"scores.md", "crops.png"} <= {file.name for file in (tmp_path / "runs/evaluation").iterdir()}
    with pytest.raises(SystemExit) as done:  # all is finished: nothing is trained again
        run_chain(words)
    assert done.value.code == 0
    assert (tmp_path / "runs/autoencoder/weights/autoencoder/config.json").stat().st_mtime_ns == kept


@pytest.mark.usefixtures("even")
def test_paths_and_settings_of_mini(tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "tiny.toml", steps=3)
    taught = TaughtConfig(teacher="network.pth", crop_px=64)
    plan = make_plan(tmp_path / "photos", tmp_path / "runs", str(preset), "", "", taught)
    configs = {task.stage: task.config for task in plan.tasks}
    assert list(configs) == ["autoencoder", "finest", "teacher", "adc", "pix"]
    runs = tmp_path / "runs"
    assert configs["teacher"].body == configs["pix"].start == str(runs / "finest/weights/gendr-pix")  # type: ignore[attr-defined]
    assert configs["pix"].adc == str(runs / "adc/weights/gendr-adc")  # type: ignore[attr-defined]
    assert [stage for stage, one in configs.items() if one.taught == taught] == ["finest", "teacher", "adc", "pix"]
    assert {one.loop.steps for one in configs.values()} == {3}
    assert all(one.data.folder == tmp_path / "photos" for one in configs.values())
    ready = make_plan(tmp_path / "photos", runs, "mini", "", "somewhere/vae", TaughtConfig())
    assert [task.stage for task in ready.tasks] == ["finest", "teacher", "adc", "pix"]
    assert ready.tasks[1].config.autoencoder == "somewhere/vae"  # type: ignore[attr-defined]


def test_paths_of_full_size(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, tmp_path / "runs", "sd21", "SD21", "VAE", TaughtConfig())
    base, teacher, adc, pix = (task.config for task in plan.tasks)
    assert (base.source, base.autoencoder, teacher.autoencoder) == ("SD21", "VAE", "VAE")  # type: ignore[attr-defined]
    assert teacher.base == str(tmp_path / "runs/base/weights/base")  # type: ignore[attr-defined]
    assert adc.teacher == pix.teacher == str(tmp_path / "runs/teacher/weights/gendr")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("preset", "source", "message"),
    [
        ("sd21", "", "needs a 16-channel autoencoder"),
        ("mini", "SD21", "no stage that starts from --source"),
        ("huge", "", "expected mini, sd21, or a TOML file"),
        ("[finest]\nstep = 3", "", "finest has no setting step"),
        ("[base]\nsource = 'x'", "", "has settings for base"),
        ("preset = 'huge'", "", "laid over the preset 'huge'"),
        ("[adc.loop]\nsteps = 'many'", "", "The settings of adc do not fit"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, preset: str, source: str, message: str) -> None:
    if "\n" in preset or "=" in preset:
        (tmp_path / "preset.toml").write_text(preset)
        preset = str(tmp_path / "preset.toml")
    with pytest.raises(ValueError, match=message):
        make_plan(tmp_path, tmp_path / "runs", preset, source, "", TaughtConfig())


def test_settings_are_laid_over_a_preset() -> None:
    config = overlaid(PRESETS["pix"]["mini"], {"randpad": False, "perceptual_zoom": [0.5, 1.0]}, "pix")
    assert (config.randpad, config.perceptual_zoom, config.mfs_weight) == (False, (0.5, 1.0), 0.1)


@pytest.mark.usefixtures("even")
def test_a_stage_begun_with_other_settings_or_from_other_weights_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", count=8, side=96)
    runs = tmp_path / "runs"
    monkeypatch.setattr("training.tools.chain.bundle", lambda settings: settings.out.mkdir())
    monkeypatch.setattr("training.tools.chain.evaluate", lambda settings: settings.out.mkdir())
    preset = write_preset(tmp_path / "tiny.toml", steps=1)
    with pytest.raises(SystemExit) as done:
        run_chain(chain_words(preset, photos, runs))
    assert done.value.code == 0, capfd.readouterr().err
    weights = runs / "teacher/weights/gendr/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(SystemExit) as done:
        run_chain(chain_words(preset, photos, runs))
    assert done.value.code == 1
    assert "adc was made of other weights of teacher than there are now" in capfd.readouterr().err
    with pytest.raises(SystemExit) as done:
        run_chain(chain_words(write_preset(tmp_path / "tiny.toml", steps=2), photos, runs))
    assert done.value.code == 1
    assert "begun with other settings (loop.steps 1, now 2)" in capfd.readouterr().err


def test_a_dry_run_of_full_size_names_gpus(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.tools.chain import ChainConfig, chain

    monkeypatch.setattr(gendrpix.specs, "MODEL_SPECS", {"sd21": NARROW_SD21})
    monkeypatch.setattr("training.tools.speed._matmul_speed", lambda device, dtype: 1e7)
    caplog.set_level("INFO")
    chain(ChainConfig(data=tmp_path, runs=tmp_path / "runs", preset="sd21", autoencoder="VAE", dry_run=True))
    assert "not meant for such a run" in caplog.text and "A100" in caplog.text
    assert not (tmp_path / "runs").exists()

"""The scorer: values, directions, and sentences about what is missing."""

import hashlib
import threading
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gendrpix.metrics import scorer as scorer_module
from gendrpix.metrics.fidelity import psnr_y, ssim_y
from gendrpix.metrics.grid import grid_score
from gendrpix.metrics.registry import DEFAULT_METRICS, METRICS
from gendrpix.metrics.scorer import RememberingTrunk, Scorer
from gendrpix.metrics.weight_files import BUNDLED_LPIPS, PROBE_TIMEOUT_S, check_reachable, weight_files


@pytest.fixture
def picture() -> Tensor:
    smooth = torch.nn.functional.interpolate(torch.randn(1, 3, 24, 24), size=(96, 96), mode="bicubic")
    return (smooth * 0.3).clamp(-1, 1)


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))


def test_weightless_metrics_agree_with_their_functions(picture: Tensor) -> None:
    truth = (picture + 0.02 * torch.randn_like(picture)).clamp(-1, 1)
    scored = Scorer(("psnr", "ssim", "piqe", "grid")).score(picture, truth)
    assert not scored.missing
    assert scored.values["psnr"] == psnr_y(picture, truth)
    assert scored.values["ssim"] == ssim_y(picture, truth)
    assert scored.values["grid"] == grid_score(picture)
    assert 0 < scored.values["piqe"] <= 100


def test_piqe_goes_in_its_direction(picture: Tensor) -> None:
    scorer = Scorer(("piqe",))
    blurred = torch.nn.functional.avg_pool2d(picture, 9, stride=1, padding=4, count_include_pad=False)
    sharp = (picture + 0.1 * torch.randn_like(picture)).clamp(-1, 1)
    assert not METRICS["piqe"].higher_is_better
    assert scorer.score(sharp).values["piqe"] < scorer.score(blurred).values["piqe"]


def test_without_a_truth_its_metrics_are_left_out(picture: Tensor) -> None:
    scored = Scorer(("psnr", "lpips", "grid")).score(picture)
    assert set(scored.values) == {"grid"} and not scored.missing


@pytest.mark.usefixtures("nothing_cached")
@pytest.mark.parametrize("name", ["musiq", "niqe", "dists", "clipiqa"])
def test_weights_that_cannot_be_had_give_a_sentence(name: str) -> None:
    picture = torch.zeros(1, 3, 192, 192)
    scored = Scorer((name,)).score(picture, picture)
    assert not scored.values
    label = METRICS[name].label
    assert scored.missing == {
        name: f"{label} is not available: its weights could not be downloaded (HF_HUB_OFFLINE is set)."
    }


@pytest.mark.usefixtures("nothing_cached")
def test_another_trunk_of_lpips_is_not_replaced_by_the_bundled_one() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    scored = Scorer(("lpips",), lpips_net="alex").score(picture, picture)
    assert not scored.values and "could not be downloaded" in scored.missing["lpips"]


@pytest.mark.usefixtures("nothing_cached")
def test_lpips_works_without_a_network(picture: Tensor) -> None:
    scorer = Scorer(("lpips",))
    rough, rougher = (picture + sigma * torch.randn_like(picture) for sigma in (0.02, 0.1))
    same, near, far = (scorer.score(one, picture).values["lpips"] for one in (picture, rough, rougher))
    assert same == 0 < near < far and scorer.label("lpips") == "LPIPS (SqueezeNet)"


def test_the_bundled_weights_are_the_recorded_ones() -> None:
    digest, name = (BUNDLED_LPIPS.parent / "SHA256SUMS").read_text(encoding="utf-8").split()
    assert name == BUNDLED_LPIPS.name and hashlib.sha256(BUNDLED_LPIPS.read_bytes()).hexdigest() == digest


@pytest.mark.usefixtures("nothing_cached")
def test_an_unreachable_server_is_asked_once_and_only_briefly(picture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def refuse(request: object, timeout: float) -> None:
        asked.append(timeout)
        raise urllib.error.URLError(TimeoutError("timed out"))

    monkeypatch.setattr("gendrpix.metrics.weight_files.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    scorer = Scorer(("musiq",))
    for _ in range(3):
        reason = scorer.score(picture).missing["musiq"]
        assert reason == "MUSIQ is not available: its weights could not be downloaded (timed out)."
    assert asked == [PROBE_TIMEOUT_S]


def test_only_https_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.metrics.weight_files.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(OSError, match="no https address"):
        check_reachable("file:///etc/passwd")


def test_weight_files_are_where_pyiqa_looks() -> None:
    assert [file.name for file in weight_files("musiq")] == ["musiq_koniq_ckpt-e95806b9.pth"]
    assert [file.name for file in weight_files("niqe")] == ["niqe_modelparameters.mat"]
    assert {file.name for file in weight_files("lpips", "alex")} == {
        "alexnet-owt-7be5be79.pth",
        "LPIPS_v0.1_alex-df73285e.pth",
    }
    assert weight_files("lpips") == {}, "the default trunk's are bundled"
    assert weight_files("piqe") == {}


def test_a_small_picture_is_told_what_each_metric_needs() -> None:
    tiny = torch.zeros(1, 3, 5, 40)
    missing = Scorer(("ssim", "grid", "piqe")).score(tiny, tiny).missing
    assert missing["ssim"] == "SSIM-Y needs at least 11 pixels a side; the picture has 40 x 5."
    assert missing.keys() == {"ssim", "grid", "piqe"}


def test_a_value_that_is_no_number_is_missing_and_said(picture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_module, "grid_score", lambda image: float("nan"))
    scored = Scorer(("grid",)).score(picture)
    assert not scored.values and "gave nan" in scored.missing["grid"]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), AssertionError("odd size"), IndexError("none")])
def test_a_metric_that_fails_is_missing_with_its_reason_and_the_others_stay(
    picture: Tensor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Tensor) -> float:
        raise error

    monkeypatch.setattr(scorer_module, "grid_score", fail)
    scored = Scorer(("psnr", "grid")).score(picture, picture)
    assert set(scored.values) == {"psnr"}
    assert scored.missing == {
        "grid": f"Grid score could not be computed for this picture ({type(error).__name__}: {error})."
    }


def test_what_a_metric_cannot_see_is_said_and_none_such_is_shown_by_default() -> None:
    assert "noise" in METRICS["piqe"].caution and "texture" in METRICS["niqe"].caution
    assert not any(METRICS[name].caution for name in DEFAULT_METRICS)


def test_unknown_metrics_and_unlike_truths_are_refused(picture: Tensor) -> None:
    with pytest.raises(ValueError, match="Unknown metric 'fid': expected one of psnr"):
        Scorer(("fid",))
    with pytest.raises(ValueError, match="truth"):
        Scorer(("psnr",)).score(picture, picture[..., :-1])


def test_threads_load_a_metric_once(picture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    original = Scorer._load
    monkeypatch.setattr(Scorer, "_load", lambda self, name: loads.append(name) or original(self, name))
    scorer, values = Scorer(("piqe",)), []
    threads = [threading.Thread(target=lambda: values.append(scorer.score(picture).values["piqe"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["piqe"] and len(set(values)) == 1 and len(values) == 4


def test_headings_name_unit_and_direction() -> None:
    assert METRICS["psnr"].heading == "PSNR-Y, dB ↑"
    assert METRICS["piqe"].heading == "PIQE ↓"
    assert METRICS["piqe"].direction == "lower is better"
    assert Scorer(lpips_net="squeeze").label("lpips") == "LPIPS (SqueezeNet)"


def test_the_features_of_a_truth_are_computed_once_for_many_results() -> None:
    """LPIPS asks for the truth's features, then the result's."""
    computed = []
    layer = torch.nn.Conv2d(3, 2, 3)
    layer.register_forward_hook(lambda *_: computed.append(1))
    trunk = RememberingTrunk(layer)
    truths, results = torch.rand(2, 1, 3, 8, 8), torch.rand(6, 1, 3, 8, 8)
    for number, result in enumerate(results):
        for pixels in (truths[number // 3].clone(), result):
            assert torch.equal(trunk(pixels), torch.nn.functional.conv2d(pixels, layer.weight, layer.bias))
    assert len(computed) == len(truths) + len(results)
    assert trunk(torch.rand(1, 3, 6, 8)).shape == (1, 2, 4, 6)  # another size is another picture

"""The benchmark: which cases, what is computed of their times, what the reports say. No assertion on seconds."""

import csv
import json
import sys
from pathlib import Path
from types import ModuleType

import PIL.Image
import pytest
import torch
from torch import nn

from gendrpix.__main__ import main
from gendrpix.baselines.networks import BASELINES, build_baseline, count_baseline
from gendrpix.bench import environment as machine
from gendrpix.bench import run as benching
from gendrpix.bench.cases import BenchResult, Case, Measured, Plan, fit_exponent, parse_size, plan_bench
from gendrpix.bench.cost import count
from gendrpix.bench.environment import measure_ceiling
from gendrpix.bench.plots import PAPER_LABEL, plot_growth
from gendrpix.bench.report import to_dict, to_markdown, to_text, write_reports
from gendrpix.bench.run import run_bench
from gendrpix.metrics.profiling import Peak
from gendrpix.settings.options import Bench
from tests.helpers.models import TINY, save_tiny_family

CPU = torch.device("cpu")


@pytest.fixture
def tiny_known(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny family is known wherever a registry was imported."""
    for module in ("bench.cost", "bench.run", "restore.network"):
        monkeypatch.setattr(f"gendrpix.{module}.MODEL_SPECS", {TINY.name: TINY})
    monkeypatch.setattr(machine, "CEILING_SIDE", {"cpu": 64})


class Nearest(nn.Module):
    """Stands for a peer: one convolution, then nearest neighbours."""

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        self.arguments = arguments
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).repeat_interleave(4, -1).repeat_interleave(4, -2)


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package, with `Nearest` for every network."""
    monkeypatch.setitem(sys.modules, "spandrel", ModuleType("spandrel"))
    monkeypatch.setitem(sys.modules, "spandrel.architectures", ModuleType("spandrel.architectures"))
    for spec in BASELINES.values():
        module = ModuleType(spec.module)
        setattr(module, spec.class_name, Nearest)
        monkeypatch.setitem(sys.modules, spec.module, module)


@pytest.fixture
def no_spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in BASELINES.values():
        if spec.module.startswith("spandrel"):
            monkeypatch.setitem(sys.modules, spec.module, None)


def options(**changes: object) -> Bench:
    chosen = {"output": Path("out"), "sizes": ("32", "48x64"), "random_weights": True, "model": "tiny", "repeats": 2}
    return Bench(**{**chosen, "warmup": 0, **changes})


def run(plan: Plan) -> tuple[BenchResult, list[str]]:
    said: list[str] = []
    return run_bench(plan, CPU, said.append), said


# Plans -------------------------------------------------------------------------------------------------------------


def test_cases_are_the_product_of_the_options() -> None:
    plan = plan_bench(
        options(attention=("full", "window"), padcfg=("batched", "sequential"), dtypes=("float32", "bfloat16"))
    )
    assert len(set(plan.cases)) == len(plan.cases) == 2 * 2 * (2 * (3 + 2) + 2)  # sizes, dtypes, kinds, peers
    first, last = plan.cases[0], plan.cases[-1]
    assert (first.name, first.width, first.height, first.padcfg) == ("gendr", 32, 32, None)
    assert (last.name, last.width, last.height, last.dtype, last.attention) == ("compact", 48, 64, "bfloat16", None)
    assert {case.padcfg for case in plan.cases if case.name == "gendr-pix"} == {"batched", "sequential"}


BAD = [
    ({"sizes": ("100",)}, "multiples of 8"),
    ({"sizes": ("0",)}, "multiples of 8"),
    ({"sizes": ("64x",)}, "multiples of 8"),
    ({"sizes": ("64x64x64",)}, "multiples of 8"),
    ({"sizes": ("800000x800000",)}, "the limit is"),
    ({"sizes": ()}, "nothing to time"),
    ({"random_weights": False}, "--model says what"),
    ({"weights": "mini"}, "exclude each other"),
    ({"repeats": 0}, "expected at least"),
    ({"restorers": ("other",)}, "expected one of gendr"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_plans_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_bench(options(**changes))


def test_sizes_are_width_and_height() -> None:
    assert parse_size("512") == (512, 512) and parse_size("3840X2160") == (3840, 2160)


# Figures -----------------------------------------------------------------------------------------------------------


def measured(name: str, side: int, seconds: tuple[float, ...], **more: object) -> Measured:
    kind = None if name in BASELINES else "auto"
    case = Case(name=name, width=side, height=side, dtype="float32", attention=kind)
    return Measured(case=case, all_seconds=seconds, peak=Peak(bytes=10**6, method="of a test"), **more)


@pytest.fixture
def result() -> BenchResult:
    plan = plan_bench(options(random_weights=False, model=None))
    figures = (
        measured("gendr", 512, (4.0, 2.0, 3.0), macs=6 * 10**9, attention_macs=10**9),
        measured("gendr", 1024, (12.0, 12.0), macs=24 * 10**9),
        measured("gendr-pix*", 512, (1.0,), macs=10**9),
        measured("gendr-pix*", 1024, (8.0,), macs=4 * 10**9),
        measured("rrdbnet", 512, (6.0,)),
        Measured(case=Case(name="compact", width=512, height=512, dtype="float32"), reason="it is missing."),
    )
    environment = {"device": "cpu (1 thread)", "processor": "a test", "python": "3", "torch": "2"}
    return BenchResult(plan=plan, environment=environment, ceilings={"float32": 8e9}, measured=figures)


def test_what_is_computed_of_the_times(result: BenchResult) -> None:
    gendr, _, star, larger, peer, missing = result.measured
    assert gendr.seconds == 3.0 and gendr.flops == 4e9 and result.share(gendr) == 0.5
    assert gendr.megapixels_per_s == pytest.approx(0.262144 / 3)
    assert [result.ratio(one) for one in (gendr, star, larger, peer, missing)] == [1.0, 3.0, 1.5, 0.5, None]
    powers = {series.name: power for series, power in result.exponents().items()}
    assert powers == {"gendr": pytest.approx(1.0), "gendr-pix*": pytest.approx(1.5)}
    assert fit_exponent([1, 10, 100], [5.0, 50.0, 500.0]) == pytest.approx(1.0)


def test_the_reports_hold_every_figure_and_reason(result: BenchResult, tmp_path: Path) -> None:
    write_reports(result, tmp_path)
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(to_dict(result)))
    assert document["cases"][0]["all_seconds"] == [4.0, 2.0, 3.0] and document["cases"][0]["flop_per_s"] == 4e9
    assert document["cases"][5]["reason"] == "it is missing."
    assert not document["random_weights"]
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    for words in ("GenDR-Pix\\*", "1.50×", "2.00 s to 4.00 s", "| 50% |", "it is missing.", "of a test", "| 1.50 |"):
        assert words in text
    assert "GenDR-Pix*, float32, auto: pixels ^ 1.50" in to_text(result)
    lines = list(csv.DictReader((tmp_path / "bench.csv").open(encoding="utf-8")))
    assert len(lines) == 6 and float(lines[0]["seconds"]) == 3.0 and float(lines[0]["slowest_seconds"]) == 4.0
    assert lines[5]["reason"] == "it is missing." and lines[5]["peak_bytes"] == ""
    for name in ("bench.png", "bench-memory.png"):
        with PIL.Image.open(tmp_path / name) as plot:
            assert plot.width > 500


def test_the_plot_is_logarithmic_with_a_line_for_each_series(result: BenchResult) -> None:
    (axes,) = plot_growth(result, "seconds").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["GenDR-Pix*, float32, auto (power 1.50)"] == [[0.262144, 1.0], [1.048576, 8.0]]
    assert len(lines) == 3  # what could not be timed has none


def test_the_papers_figures_are_marked_and_named(result: BenchResult) -> None:
    (axes,) = plot_growth(result, "seconds", paper=True).axes
    labels = [line.get_label() for line in axes.lines]
    assert PAPER_LABEL in labels and "A100" in PAPER_LABEL
    marks = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "x"]
    assert marks == [[8.2944, 4.92], [8.2944, 0.87]]  # of the two restorers that were measured
    (axes,) = plot_growth(result, "bytes", paper=True).axes
    assert [8.2944, 5030.0] in [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "x"]


# Real runs ---------------------------------------------------------------------------------------------------------


def test_every_case_runs_with_random_weights_and_says_so(tiny_known: None, spandrel: None) -> None:
    names = ("gendr", "gendr-pix", "gendr-pix*")
    result, said = run(plan_bench(options(restorers=names, padcfg=("batched", "sequential"), repeats=2)))
    assert [one.reason for one in result.measured] == [""] * len(said) and len(said) == 12
    assert said[0].startswith("1/12 GenDR, 32 x 32, float32, auto: ")
    for one in result.measured:
        assert len(one.all_seconds) == 2 and one.peak is not None and one.peak.bytes >= 0
    pix = next(one for one in result.measured if one.case.name == "gendr-pix")
    cost = count("tiny", "gendr-pix", 32, 32, guided=True, attention="auto")
    assert (pix.macs, pix.attention_macs, pix.parameters) == (cost.total_macs, cost.attention_macs, cost.parameters)
    assert len(result.exponents()) == 6 and result.ceilings["float32"] > 0
    for text in (to_text(result), to_markdown(result), plot_growth(result, "seconds").axes[0].get_title()):
        assert "RANDOM weights" in text
    assert to_dict(result)["random_weights"] is True


def test_a_case_that_fails_keeps_its_reason_and_the_others_run(
    tiny_known: None, no_spandrel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, *_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(benching, "random_restorer", fail)
    result, _ = run(plan_bench(options(restorers=("gendr",), sizes=("32",))))
    reasons = [one.reason for one in result.measured]
    assert "not enough memory" in reasons[0]
    assert all('pip install "spandrel' in reason for reason in reasons[1:])
    assert all(one.seconds is None for one in result.measured) and result.exponents() == {}
    assert "Not measured: Compact" in to_text(result)


def test_a_ceiling_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CEILING_SIDE", {"cpu": 32})
    assert measure_ceiling(CPU, torch.float32) > 0 < measure_ceiling(CPU, torch.bfloat16)


def test_the_command_writes_once(tiny_known: None, no_spandrel: None, tmp_path: Path, capsys) -> None:
    family = save_tiny_family(tmp_path / "family", names=("gendr", "gendr-pix"))
    out = tmp_path / "out"
    words = ["bench", "-o", out, "--weights", family, "--sizes", "32", "--repeats", "1", "--device", "cpu"]
    command = [str(word) for word in [*words, "--restorers", "gendr", "gendr-pix*"]]
    assert main(command) == 0
    names = ["bench-memory.png", "bench.csv", "bench.json", "bench.md", "bench.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    said = capsys.readouterr()
    assert "GenDR-Pix*" in said.out and "RANDOM" not in said.out and "4/4" in said.err
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_peers_are_what_real_esrgan_uses() -> None:
    pytest.importorskip("spandrel", reason="pip install -r requirements-peers.txt")
    counts = {name: count_baseline(name, 64, 64) for name in ("rrdbnet", "compact")}
    assert counts["rrdbnet"][0] == pytest.approx(16.70e6, rel=1e-3)
    assert counts["compact"][0] == pytest.approx(1.21e6, rel=1e-2)
    # one product of 16 x 16 positions for each weight of a convolution, but for biases and PReLU's slopes
    assert counts["compact"][1] == pytest.approx(counts["compact"][0] * 16 * 16, rel=5e-3)
    with torch.inference_mode():
        assert build_baseline("compact")(torch.zeros(1, 3, 6, 5)).shape == (1, 3, 24, 20)


def test_the_diffusion_peer_is_stable_diffusions_size() -> None:
    """865.9M in the UNet and 83.7M in the autoencoder of 4 channels; the prompt's 77 x 1024 numbers beside."""
    parameters, macs = count_baseline("sd21-vae4", 64, 64)
    assert parameters == pytest.approx(865.91e6 + 83.65e6 + 77 * 1024, rel=1e-4)
    assert macs > count("sd21", "gendr-pix", 64, 64).total_macs

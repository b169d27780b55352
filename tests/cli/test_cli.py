"""The command line: what it writes, what it says, and how it ends."""

import csv
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

import gendrpix
from gendrpix import __version__
from gendrpix.__main__ import main
from gendrpix.devices import pick_dtype
from gendrpix.image.picture import cut
from gendrpix.image.read import open_picture
from gendrpix.image.write import to_array
from gendrpix.restore.pipelines import load_restorer
from gendrpix.restore.restorer import pick_dtype_for
from gendrpix.settings.recipe import read_entry
from gendrpix.settings.restoration import RestoreSettings
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import photo


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(20, 16).save(folder / "a.jpg", quality=95)
    rgba = photo(18, 12).convert("RGBA")
    rgba.putalpha(PIL.Image.new("L", rgba.size, 50))
    rgba.save(folder / "b.png")
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in (*arguments, "--device", "cpu")])


def test_a_folder_is_restored_under_the_inputs_names(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "deep" / "out"
    assert run("restore", inputs, "-o", out, "--weights", weights, "--scale", "2.5") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    with PIL.Image.open(out / "a.png") as a, PIL.Image.open(out / "b.png") as b:
        assert (a.format, a.mode, a.size) == ("PNG", "RGB", (50, 40))
        assert (b.mode, b.size, b.getchannel("A").getextrema()) == ("RGBA", (45, 30), (50, 50))
    said = capsys.readouterr()
    assert said.err.startswith("gendrpix: 2 restored in ") and said.err.count("\n") == 1
    assert [line.split()[0] for line in said.out.splitlines()] == [str(out / "a.png"), str(out / "b.png")]


@pytest.mark.parametrize(
    ("options", "call"),
    [
        (["--restorer", "gendr"], {}),
        (["--restorer", "gendr-adc", "--guidance", "none"], {}),
        (
            ["--guidance", "1.5", "--pos-pad", "1", "2", "--neg-pad", "0", "7"],
            {"guidance": 1.5, "pos_pad": (1, 2), "neg_pad": (0, 7)},
        ),
        (["--guidance", "0.5", "--dtype", "bfloat16"], {"guidance": 0.5}),
        (["--plain-cfg"], {"plain_cfg": True}),
    ],
)
def test_options_reach_the_pipeline(
    options: list[str], call: dict, inputs: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("restore", inputs / "a.jpg", "-o", out, "--weights", weights, "--scale", "2", *options) == 0
    name = options[1] if options[0] == "--restorer" else "gendr-pix"
    dtype = torch.bfloat16 if "bfloat16" in options else torch.float32
    pipeline = load_restorer(name, weights, dtype=dtype)
    expected = pipeline(inputs / "a.jpg", scale=2, **call).images[0]
    with PIL.Image.open(out / "a.png") as result:
        assert np.array_equal(np.asarray(result), np.asarray(expected))
        recipe = json.loads(result.text["gendrpix"])
        assert result.text["Software"] == f"gendrpix {__version__}"
    assert (recipe["restorer"], recipe["scale"]) == (name, 2.0)
    assert recipe["guidance"] == (1.5 if "plain_cfg" in call else call.get("guidance"))
    assert recipe["weights"] == weights.name  # its name, not where it lies
    assert recipe.get("pos_pad") == (list(call.get("pos_pad", (4, 4))) if "guidance" in call else None)


def test_colours_and_bits_reach_the_file_and_its_recipe(inputs: Path, weights: Path, tmp_path: Path) -> None:
    more = ("--weights", weights, "--scale", "2", "--color-fix", "adain", "--bits", "16")
    assert run("restore", inputs / "a.jpg", "-o", tmp_path / "out", *more) == 0
    assert run("restore", inputs / "a.jpg", inputs / "b.png", "-o", tmp_path / "two", "--batch", "2", *more) == 0
    one = ("--restorers", "gendr-pix*", "--warmup", "0")
    assert run("compare", inputs / "a.jpg", "-o", tmp_path / "cmp", *one, *more) == 0
    pipeline = load_restorer("gendr-pix", weights)
    pixels = pipeline(inputs / "a.jpg", scale=2, color_fix="adain", output_type="pt").images
    expected = to_array(pixels, bits=16)
    for file in ("out/a.png", "two/a.png", "cmp/a_gendr-pix-star.png"):
        assert np.array_equal(read_png16(tmp_path / file), expected)
        recipe = json.loads(read_entry(tmp_path / file))
        assert (recipe["color_fix"], recipe["bits"]) == ("adain", 16)
    assert read_png16(tmp_path / "two/b.png").shape == (24, 36, 4)


def test_tiles_and_streams(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    photo(130, 90).save(inputs / "c.png")
    more = ("--weights", weights, "--scale", "2", "--dtype", "float32", "--tile", "128")
    assert run("restore", inputs, "-o", tmp_path / "tiled", *more) == 0
    assert run("restore", inputs, "-o", tmp_path / "streamed", *more, "--stream", "--report", tmp_path / "r.csv") == 0
    assert run("restore", inputs, "-o", tmp_path / "streamed", *more, "--stream") == 0
    said = capsys.readouterr()
    assert said.out.count("there already, kept") == 3
    assert f"{inputs / 'c.png'}: Tiles of 128 pixels: about " in said.err
    for name in ("a.png", "b.png", "c.png"):
        with PIL.Image.open(tmp_path / "tiled" / name) as one, PIL.Image.open(tmp_path / "streamed" / name) as two:
            assert one.size == two.size and one.mode == two.mode
            differences = np.asarray(one).astype(int) - np.asarray(two).astype(int)
            assert np.abs(differences).max() <= 1  # the input is resized in strips
            assert json.loads(two.text["gendrpix"])["stream"] is True
            assert json.loads(one.text["gendrpix"])["tile"] == 128
    lines = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [(line["status"], line["result_width"]) for line in lines] == [
        ("restored", "40"),
        ("restored", "36"),
        ("restored", "260"),
    ]


def test_a_streamed_folder_goes_on_after_a_bad_picture(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    (inputs / "aa.png").write_text("hello")
    command = ("restore", inputs, "-o", tmp_path / "out", "--weights", weights, "--scale", "1", "--stream")
    assert run(*command, "--color-fix", "wavelet", "--bits", "16") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert read_png16(tmp_path / "out" / "a.png").shape == (16, 20, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tile", "100"], "multiple of 8"),
        (["--stream", "--tile", "none"], "stream restores in tiles"),
        (["--stream", "--batch", "2"], "leave out --batch 2"),
        (["--stream", "--color-fix", "adain"], "choose wavelet"),
    ],
)
def test_tiles_that_make_no_sense(options: list[str], said: str, inputs: Path, tmp_path: Path, capsys) -> None:
    assert run("restore", inputs, "-o", tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err


def test_automatic_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("auto") == pick_dtype("auto", torch.device("mps")) == torch.float32
    monkeypatch.setattr("gendrpix.devices.cpu_has_bfloat16", lambda: True)
    assert pick_dtype("auto") == torch.bfloat16
    assert pick_dtype("auto", torch.device("mps")) == pick_dtype("float32") == torch.float32


@pytest.mark.parametrize(
    ("restorer", "more", "expected"),
    [
        ("gendr-pix", {}, torch.bfloat16),
        ("gendr-pix", {"bits": 16}, torch.float32),
        ("gendr", {}, torch.float32),
        ("gendr-adc", {}, torch.float32),
        ("gendr", {"dtype": "bfloat16"}, torch.bfloat16),
    ],
)
def test_automatic_numbers_are_float32_where_bfloat16_would_show(
    restorer: str, more: dict, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendrpix.devices.cpu_has_bfloat16", lambda: True)
    settings = RestoreSettings(restorer=restorer, **more)
    assert pick_dtype_for(settings, torch.device("cpu")) == expected


def read_png16(path: Path) -> np.ndarray:
    """(H, W, C) uint16, read apart from the encoder under test."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    return image[..., [2, 1, 0, 3][: image.shape[2]]]


def test_bad_pictures_are_named_and_the_others_restored(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    (inputs / "empty.jpg").touch()
    (inputs / "text.png").write_text("hello")
    (inputs / "cut.jpg").write_bytes((inputs / "a.jpg").read_bytes()[:300])
    header = bytearray((inputs / "b.png").read_bytes())
    header[16:24] = (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big")
    (inputs / "claims.png").write_bytes(header)
    out = tmp_path / "out"
    assert run("restore", inputs, "-o", out, "--weights", weights, "--scale", "1") == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    lines = capsys.readouterr().err.splitlines()
    for name in ("empty.jpg", "text.png", "cut.jpg", "claims.png"):
        assert [line for line in lines if line.startswith(f"gendrpix: {inputs / name}: ") and line.endswith(".")]
    assert lines[-1].startswith("gendrpix: 2 restored, 4 failed in ")
    assert not any("Traceback" in line for line in lines)


def test_nothing_is_loaded_or_made_where_every_picture_is_bad(
    weights: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("gendrpix.cli.restore.load_pipeline", None)
    (tmp_path / "x.png").touch()
    assert run("restore", tmp_path / "x.png", "-o", tmp_path / "out", "--weights", weights) == 1
    assert not list((tmp_path / "out").iterdir())
    assert "is empty" in capsys.readouterr().err


def test_an_existing_result_is_kept_unless_told_otherwise(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    command = ("restore", inputs, "-o", out, "--weights", weights, "--scale", "1")
    assert run(*command) == 1
    assert (out / "a.png").read_bytes() == b"mine" and (out / "b.png").is_file()
    assert "exists already" in capsys.readouterr().err
    assert run(*command, "--overwrite") == 0
    with PIL.Image.open(out / "a.png") as image:
        assert image.size == (20, 16)


def test_results_beside_the_pictures_replace_none_and_are_not_restored_again(
    inputs: Path, weights: Path, capsys
) -> None:
    photo(8, 8).save(inputs / "a.png")
    before = {path.name: path.read_bytes() for path in inputs.iterdir()}
    command = ("restore", inputs, "-o", inputs, "--weights", weights, "--scale", "1", "--overwrite")
    assert run(*command) == 0
    made = {path.name: path.read_bytes() for path in inputs.iterdir()}
    assert sorted(made) == ["a (2).png", "a (3).png", "a.jpg", "a.png", "b (2).png", "b.png"]
    assert {name: made[name] for name in before} == before
    capsys.readouterr()
    assert run(*command) == 0
    said = capsys.readouterr()
    assert said.out.count("there already, kept") == 3 and "left out: 3 result ('a (2).png', " in said.err
    assert {path.name: path.read_bytes() for path in inputs.iterdir()} == made


@pytest.mark.parametrize("twin", ["a.png", "A.webp"])
def test_pictures_whose_results_would_share_a_name_get_numbers(
    twin: str, inputs: Path, weights: Path, tmp_path: Path
) -> None:
    photo(8, 8).save(inputs / twin)
    assert run("restore", inputs, "-o", tmp_path / "out", "--weights", weights, "--scale", "1") == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


STARTS = [
    (["restore", "IN", "-o", "OUT", "--weights", "nobody/nothing"], "No weights at 'nobody/nothing'"),
    (["restore", "IN", "-o", "OUT", "--scale", "9"], "scale is 9; expected a number from 1 to 8"),
    (["restore", "IN", "-o", "OUT", "--scale", "2", "--size", "64"], "give one of them"),
    (["restore", "IN", "-o", "OUT", "--size", "0"], "size is 0; expected a whole number from 1"),
    (["restore", "IN", "-o", "OUT", "--batch", "0"], "--batch is 0"),
    (["restore", "IN", "-o", "OUT", "--report", "IN"], "is no report"),
    (["restore", "IN", "-o", "OUT", "--guidance", "1", "--neg-pad", "3", "8"], "0 to 7"),
    (
        ["restore", "IN", "-o", "OUT", "--restorer", "gendr", "--guidance", "1.5"],
        "guidance is for gendr-pix only, not for gendr;",
    ),
    (["restore", "IN", "-o", "OUT", "--guidance", "4.0"], "guidance is 4; expected a number from 0 to 3"),
    (["restore", "IN", "-o", "OUT", "--guidance", "-0.5"], "guidance is -0.5; expected a number from 0 to 3"),
    (["restore", "-o", "OUT"], "nothing to restore"),
    (["restore", "missing.png", "-o", "OUT"], "is not there"),
    (["restore", "IN", "-o", "IN"], "is a file"),
    (["compare", "missing.png", "-o", "OUT"], "is not there"),
    (["compare", "IN", "-o", "OUT", "--repeats", "0"], "repeats 0"),
]


@pytest.mark.parametrize(("arguments", "message"), STARTS)
def test_what_cannot_start_ends_with_a_sentence(
    arguments: list[str], message: str, inputs: Path, tmp_path: Path, capsys
) -> None:
    places = {"IN": inputs / "a.jpg", "OUT": tmp_path / "out"}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["restore", "a.png"], ["restore", "a.png", "-o", "x", "--guidance", "much"]])
def test_arguments_that_make_no_sense_are_refused_by_the_parser(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_missing_device_is_said(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    arguments = ["restore", inputs / "a.jpg", "-o", tmp_path / "out", "--weights", weights, "--device", absent]
    assert main([str(argument) for argument in arguments]) == 2
    assert f"no {absent} device" in capsys.readouterr().err


def test_running_out_of_memory_is_a_sentence(inputs: Path, weights: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def exhaust(*_: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    monkeypatch.setattr("gendrpix.jobs.calls.restore_call", lambda *_: exhaust)
    assert run("restore", inputs / "a.jpg", "-o", tmp_path / "out", "--weights", weights) == 1
    assert "not enough memory for this; choose a smaller scale" in capsys.readouterr().err


def test_an_interruption_ends_quietly(inputs: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gendrpix.cli.restore.load_pipeline", interrupt)
    assert run("restore", inputs / "a.jpg", "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err == "gendrpix: interrupted.\n"


def test_an_animation_is_restored_with_a_note(weights: Path, tmp_path: Path, capsys) -> None:
    photo(9, 9).save(tmp_path / "moving.gif", save_all=True, append_images=[photo(9, 9).rotate(90)])
    assert run("restore", tmp_path / "moving.gif", "-o", tmp_path / "out", "--weights", weights) == 0
    assert "frame" in capsys.readouterr().err
    assert (tmp_path / "out" / "moving.png").is_file()


def test_size_is_the_longer_side_of_every_result(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    photo(100, 30).save(inputs / "wide.png")  # longer than asked for already
    photo(5, 12).save(inputs / "tiny.png")  # 8.3 times would be needed
    out = tmp_path / "out"
    assert run("restore", inputs, "-o", out, "--weights", weights, "--size", "99") == 1
    sizes = {path.name: PIL.Image.open(path).size for path in out.iterdir()}
    assert sizes == {"a.png": (99, 79), "b.png": (99, 66)}
    assert "longer side of 99 is out of reach: scale is 0.99;" in (said := capsys.readouterr().err)
    assert "scale is 8.25; expected a number from 1 to 8" in said
    assert run("compare", inputs / "a.jpg", "-o", tmp_path / "c", "--weights", weights, "--size", "50") == 0
    assert {PIL.Image.open(path).size for path in (tmp_path / "c").glob("*.png")} == {(50, 40)}


def test_crop_restores_a_part_alone(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    out, options = tmp_path / "out", ("--weights", weights, "--scale", "2", "--crop", "3", "2", "9", "7")
    assert run("restore", inputs / "b.png", "-o", out, *options) == 0
    pipeline = load_restorer("gendr-pix", weights)
    direct = pipeline(cut(open_picture(inputs / "b.png"), (3, 2, 9, 7)), scale=2.0).images[0]
    with PIL.Image.open(out / "b.png") as made:
        assert made.size == (18, 14) and made.tobytes() == direct.tobytes()
        assert json.loads(made.info["gendrpix"])["crop"] == [3, 2, 9, 7]
    assert run("compare", inputs / "b.png", "-o", tmp_path / "c", "--restorers", "gendr-pix*", *options) == 0
    with PIL.Image.open(tmp_path / "c" / "b_gendr-pix-star.png") as made:
        assert made.tobytes() == direct.tobytes()
    assert run("restore", inputs / "a.jpg", "-o", out, "--crop", "15", "0", "9", "7", "--weights", weights) == 1
    assert "not within the picture" in capsys.readouterr().err


def test_compare_saves_every_result_and_the_reports(inputs: Path, weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    truth = tmp_path / "truth.png"
    photo(40, 32).save(truth)
    command = ("compare", inputs / "a.jpg", "-o", out, "--weights", weights, "--scale", "2", "--truth", truth)
    assert run(*command) == 0
    names = ["input", "gendr", "gendr-adc", "gendr-pix", "gendr-pix-star"]
    assert {path.name for path in out.iterdir()} == {f"a_{name}.png" for name in names} | {"report.csv", "report.json"}
    for name in names:
        with PIL.Image.open(out / f"a_{name}.png") as image:
            assert image.size == (40, 32)
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        assert [row["restorer"] for row in csv.DictReader(file)] == [*names[:4], "gendr-pix*"]
    table = capsys.readouterr().out
    for words in ("GenDR-Pix*", "PSNR-Y", "Speed", "Peak memory", "Grid score", "cpu (1 thread), float32"):
        assert words in table
    assert run(*command) == 2
    assert "exists already" in capsys.readouterr().err


def test_compare_loads_all_weights_before_it_writes(inputs: Path, tmp_path: Path, capsys) -> None:
    family = save_tiny_family(tmp_path / "family", names=("gendr", "gendr-pix"))
    assert run("compare", inputs / "a.jpg", "-o", tmp_path / "out", "--weights", family) == 2
    assert not (tmp_path / "out").exists()
    assert "no weights of gendr-adc" in capsys.readouterr().err


def test_compare_can_leave_some_out(inputs: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--restorers", "gendr-pix", "gendr-pix*", "--guidance", "none", "--scale", "1")
    assert run("compare", inputs / "a.jpg", "-o", out, "--weights", weights, *arguments) == 0
    assert {path.stem for path in out.glob("*.png")} == {"a_input", "a_gendr-pix-star"}


def test_info_prints_the_papers_figures(capsys) -> None:
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert "866.99M" in said and "343.5 G" in said and "743.3 G" in said


def test_info_refuses_a_size_that_is_none(capsys) -> None:
    assert main(["info", "--size", "0"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("gendrpix: ") and "0" in said.err


def test_as_a_process_from_anywhere(inputs: Path, weights: Path, tmp_path: Path) -> None:
    root = Path(gendrpix.__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    (inputs / "text.jpg").write_text("x")
    command = [sys.executable, "-m", "gendrpix", "restore", "in/a.jpg", "in/text.jpg", "-o", "out", "--scale", "2"]
    ended = subprocess.run(
        [*command, "--weights", str(weights), "--device", "cpu"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"{Path('out') / 'a.png'}  40 x 32  ")
    assert ended.stderr.count("\n") == 2 and "1 restored, 1 failed" in ended.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_help_answers_without_loading_torch() -> None:
    code = "import sys, gendrpix.__main__; sys.exit('torch' in sys.modules)"
    root = Path(gendrpix.__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("module", ["gendrpix", "training"])
def test_a_reader_that_has_gone_is_no_error(module: str) -> None:
    """As in `python -m gendrpix --help | head -1`."""
    root = Path(__file__).resolve().parents[2]
    words = (
        [sys.executable, "-m", module, "restore", "--help"] if module == "gendrpix" else [sys.executable, "-m", module]
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=root)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_installed_package_lacks_nothing() -> None:
    """pyproject.toml names the packages one by one, because the weights lie beside them."""
    root = Path(gendrpix.__file__).resolve().parent.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = settings["tool"]["setuptools"]
    found = {
        str(path.parent.relative_to(root)).replace(os.sep, ".")
        for top in ("gendrpix", "training")
        for path in (root / top).rglob("__init__.py")
    }
    assert found == set(setuptools["packages"]) - set(setuptools["package-dir"])
    patterns = setuptools["package-data"]["gendrpix.assets"]
    installed = {path for pattern in patterns for path in (root / "assets").glob(pattern)}
    assert set((root / "assets" / "checkpoints" / "mini").rglob("*.safetensors")) <= installed
    packed = {".py", *(pattern.removeprefix("*") for pattern in setuptools["package-data"]["gendrpix.ui"])}
    assert {path.suffix for path in (root / "gendrpix" / "ui").iterdir() if path.is_file()} <= packed
    assert settings["project"]["scripts"]["gendrpix"] == "gendrpix.__main__:main"

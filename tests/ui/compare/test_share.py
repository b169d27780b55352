"""A result can be made again: by its command, by its Python, from its PNG; and a run can be stopped within a layer."""

import base64
import shlex
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from gendrpix.image.write import save_png
from gendrpix.settings.recipe import Recipe, read_entry
from gendrpix.settings.reproduce import to_command, to_python
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.compare.share import ONLY_RESIZED
from gendrpix.ui.compare.tab import CompareTab
from gendrpix.ui.engine.cancel import CancelToken, FairLock, StoppedError, watch
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Request
from gendrpix.ui.panels.maps import CONSISTENCY, DIFFERENCE
from gendrpix.ui.widgets.inputs import example_photos
from tests.helpers import comparing
from tests.helpers.comparing import OFFSET_NAMES, as_photo
from tests.helpers.models import save_tiny_family, tiny_pipeline

ROOT = Path(__file__).resolve().parents[3]
OFFSETS = (1, 6, 3, 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny weights and the cat, as a visitor has them."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny_family(folder / "tiny")
    cat = next(path for path in example_photos() if path.stem == "cat")
    (folder / cat.name).write_bytes(cat.read_bytes())
    return folder


@pytest.fixture(scope="module")
def tab(home: Path) -> CompareTab:
    with gr.Blocks():
        return CompareTab(Engine(str(home / "tiny")))


def run(tab: CompareTab, photo: Path, names: list[str], **settings: object) -> list[dict]:
    pads = dict(zip(OFFSET_NAMES, OFFSETS, strict=True))
    return comparing.run(tab, as_photo(photo), names, **{"omega": 1.35, **pads, **settings})


def python(*words: str, folder: Path) -> None:
    # As many threads as here (tests/conftest.py): another number adds floats in another order
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def decoded(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def guided(tab: CompareTab, home: Path) -> list[dict]:
    return run(tab, home / "cat.png", ["gendr-pix"])


def test_command_and_python_make_the_same_pixels(tab: CompareTab, home: Path, guided: list[dict]) -> None:
    last = [step for step in guided if tab.viewer.slider in step][-1]
    shown = decoded(last[tab.viewer.slider]["value"][1])
    command = last[tab.share.command]
    assert command.startswith("python -m gendrpix restore cat.png -o restored --restorer gendr-pix --scale 2 ")
    python(*shlex.split(command)[1:], folder=home)
    assert np.array_equal(decoded(home / "restored" / "cat.png"), shown)
    python("-c", last[tab.share.python], folder=home)
    assert np.array_equal(decoded(home / "restored.png"), shown)


def test_downloaded_png_carries_its_settings(tab: CompareTab, guided: list[dict]) -> None:
    last = [step for step in guided if tab.viewer.slider in step][-1]
    path = last[tab.viewer.slider]["value"][1]
    recipe = Recipe.from_png(Path(path))
    guided = RestoreSettings(scale=2, guidance=1.35, pos_pad=OFFSETS[:2], neg_pad=OFFSETS[2:], dtype="float32")
    assert recipe.settings == guided
    assert str(ROOT) not in (read_entry(Path(path)) or "")
    updates = tab.handlers.load_settings(path)
    assert updates[tab.restorers] == ["gendr-pix"] and updates[tab.scale]["value"] == 2.0
    assert updates[tab.padcfg.kind] == "PadCFG"
    assert [updates[box]["value"] for box in tab.padcfg.sliders] == [1.35, *OFFSETS]
    assert updates[tab.options.loaded]["value"] == "Settings loaded: gendr-pix, scale 2."


def test_settings_of_other_weights_are_said(tab: CompareTab, tmp_path: Path) -> None:
    entry = '{"restorer": "gendr-pix", "weights": "mini", "scale": 4, "guidance": null, "weights_sha256": "00"}'
    path = save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", metadata={"gendrpix": entry})
    updates = tab.handlers.load_settings(str(path))
    assert updates[tab.restorers] == ["gendr-pix*"]
    assert "other weights (mini)" in updates[tab.options.loaded]["value"]
    with pytest.raises(gr.Error, match="no recipe"):
        tab.handlers.load_settings(str(save_png(Image.new("RGB", (8, 8)), tmp_path / "b.png")))


def test_lines_for_each_kind(tab: CompareTab, home: Path) -> None:
    plain = [
        step
        for step in run(tab, home / "cat.png", ["gendr-pix", "gendr-pix*"], guidance="Plain CFG")
        if tab.session in step
    ]
    results = plain[-1][tab.session]
    source, star, guided = results.measurements
    results.choose(source.label, source.label)
    assert tab.share.shown(results)[tab.share.command] == tab.share.shown(results)[tab.share.python] == ONLY_RESIZED
    command = to_command(guided.settings, "cat.png")
    assert "restore" in command and "--plain-cfg" in command and "--pos-pad" not in command
    assert "plain_cfg=True" in to_python(guided.settings, "cat.png")
    assert to_command(star.settings, "-a b.png").endswith(
        "'./-a b.png' -o restored --restorer gendr-pix --scale 2 --dtype float32"
    )
    assert "guidance" not in to_python(star.settings, "cat.png")


@pytest.mark.parametrize("names", [["gendr-pix"], ["gendr"]])
def test_a_part_in_16_bits_is_made_again_to_the_pixel(
    tab: CompareTab, home: Path, names: list[str], tmp_path: Path
) -> None:
    steps = run(tab, home / "cat.png", names, crop=True, side_px=40, across=30, bits=16, color_fix="wavelet", scale=2.5)
    last = [step for step in steps if tab.viewer.slider in step][-1]
    file = last[tab.download]["value"]
    assert Image.open(last[tab.viewer.slider]["value"][1]).size == Image.open(file).size == (100, 100)
    assert "--crop 18 44 40 40" in last[tab.share.command] and "--bits 16" in last[tab.share.command]
    wanted = Path(file).read_bytes()
    assert wanted[24] == 16  # the bit depth in the PNG's header
    recipe = Recipe.from_png(Path(file)).settings
    assert (recipe.crop, recipe.bits) == ((18, 44, 40, 40), 16)
    (tmp_path / "tiny").symlink_to(home / "tiny")
    (tmp_path / "cat.png").write_bytes((home / "cat.png").read_bytes())
    python(*shlex.split(last[tab.share.command])[1:], folder=tmp_path)
    python("-c", last[tab.share.python], folder=tmp_path)
    assert pixel_data(tmp_path / "restored" / "cat.png") == pixel_data(tmp_path / "restored.png") == pixel_data(file)


def pixel_data(path: Path | str) -> bytes:
    """The decompressed samples of a PNG, as they are written: Pillow would reduce 16-bit colours to 8."""
    data, place, packed = Path(path).read_bytes(), 8, b""
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        packed += data[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        place += size + 12
    return zlib.decompress(packed)


def test_a_part_is_tried_and_then_the_whole_restored(tab: CompareTab, home: Path) -> None:
    steps = run(tab, home / "cat.png", ["gendr", "gendr-pix*"], crop=True, side_px=40)
    results = [step for step in steps if tab.session in step][-1][tab.session]
    assert steps[-2][tab.whole] == {"value": "GenDR on the whole photo", "visible": True, "__type__": "update"}
    chosen = tab.handlers.choose_pair(results, "Input (bicubic)", "GenDR-Pix*", CONSISTENCY)
    assert chosen[tab.whole]["value"] == "GenDR-Pix* on the whole photo"
    assert chosen[tab.maps.map]["value"].height > 100  # of the part, not of the whole photo
    whole = list(tab.handlers.run_whole([], None, results, progress=lambda *args, **kwargs: None))
    shown = [step for step in whole if tab.viewer.slider in step][-1]
    assert [label for _, label in shown[tab.viewer.right]["choices"]] == ["Input (bicubic)", "GenDR-Pix*"]
    assert Image.open(shown[tab.viewer.slider]["value"][1]).size == (256, 256)
    assert shown[tab.whole]["visible"] is False
    part = decoded(results.files["Input (bicubic)"])
    assert part.shape == (80, 80, 3)


def test_a_page_for_others_holds_both_pictures(tab: CompareTab, home: Path, guided: list[dict]) -> None:
    results = [step for step in guided if tab.session in step][-1][tab.session]
    results.photo_name = "<b>cat.png"
    update = tab.share.write_page(results)
    text = Path(update["value"]).read_text(encoding="utf-8")
    results.photo_name = "cat.png"
    assert update["visible"] and update["value"].endswith(".html")
    for label, path in results.files.items():
        assert base64.b64encode(path.read_bytes()).decode() in text and label in text
    assert "<b>cat" not in text and "&lt;b&gt;cat.png" in text
    assert "http" not in text  # it opens offline


def test_maps_follow_the_pair(tab: CompareTab, guided: list[dict]) -> None:
    results = [step for step in guided if tab.session in step][-1][tab.session]
    same = tab.handlers.choose_pair(results, "GenDR-Pix", "GenDR-Pix", DIFFERENCE)
    assert "a mean of 0.00%" in same[tab.maps.mean]["value"]
    other = tab.handlers.choose_pair(results, "Input (bicubic)", "GenDR-Pix", CONSISTENCY)
    assert "a mean of 0.00%" not in other[tab.maps.mean]["value"]
    assert other[tab.maps.map]["value"].width > 256
    assert other[tab.share.command].startswith("python -m")
    assert tab.handlers.draw_map(results, "Off")[tab.maps.map]["visible"] is False


def test_truth_adds_its_scores(tab: CompareTab, home: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.png"
    Image.open(home / "cat.png").convert("RGB").resize((256, 256)).save(truth)
    steps = run(tab, home / "cat.png", ["gendr-pix*"], truth={"path": str(truth)})
    table = [step for step in steps if tab.table in step][-1][tab.table]["value"]
    assert "PSNR-Y" in table and "SSIM-Y" in table
    with pytest.raises(gr.Error, match="128 x 128"):
        run(tab, home / "cat.png", ["gendr-pix*"], truth={"path": str(home / "cat.png")})


# Stopping ----------------------------------------------------------------------------------------------------------


def test_a_run_stops_within_a_layer() -> None:
    pipeline, stop, line = tiny_pipeline("gendr"), CancelToken(), FairLock()
    watch(pipeline)
    seen = []
    count = lambda *_: (seen.append(1), stop.set() if len(seen) == 5 else None)  # noqa: E731
    hooks = [
        module.register_forward_hook(lambda *_: count() and None) for module in pipeline.unet.down_blocks[0].resnets
    ]
    hooks.append(pipeline.unet.conv_in.register_forward_hook(lambda *_: stop.set()))
    with pytest.raises(StoppedError), line.turn(stop):
        pipeline(Image.new("RGB", (16, 16)), scale=1)
    assert not seen  # the block after the layer that set the flag was not run to its end
    for hook in hooks:
        hook.remove()
    with line.turn(CancelToken()):
        pipeline(Image.new("RGB", (16, 16)), scale=1)


def test_cancel_ends_the_stream(tab: CompareTab, home: Path) -> None:
    request = Request.of({"path": str(home / "cat.png")}, ["gendr", "gendr-pix*"], RestoreSettings(scale=2))
    stop = CancelToken()
    stream = tab.handlers.engine.compare(tab.handlers.engine.prepare(request), stop)
    next(stream)
    tab.buttons.press_cancel(stop)
    with pytest.raises(StoppedError):
        next(stream)
    request = Request.of({"path": str(home / "cat.png")}, ["gendr-pix*"], RestoreSettings(scale=1))
    result, image = tab.handlers.engine.restore(tab.handlers.engine.prepare(request))
    assert result.size == image.size == (128, 128)

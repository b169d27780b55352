"""The page's handlers as functions, on tiny random weights."""

import ast
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.compare.tab import CompareTab
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Request
from gendrpix.ui.engine.results import save_result
from gendrpix.ui.panels.guidance import usable
from gendrpix.ui.widgets.errors import OUT_OF_MEMORY, UNEXPECTED, user_errors
from gendrpix.ui.widgets.inputs import example_photos
from tests.helpers.comparing import empty_results, run, stream, values
from tests.helpers.models import save_tiny_family

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(str(save_tiny_family(tmp_path_factory.mktemp("weights"))))


@pytest.fixture(scope="module")
def tab(engine: Engine) -> CompareTab:
    with gr.Blocks():
        return CompareTab(engine)


@pytest.fixture
def photo(tmp_path: Path) -> dict:
    path = tmp_path / "my photo.png"
    Image.linear_gradient("L").convert("RGB").resize((40, 36)).save(path)
    return {"path": str(path), "orig_name": "my photo.png"}


def value(update: dict) -> object:
    return update["value"]


def test_run_streams_input_then_each_result(tab: CompareTab, photo: dict) -> None:
    steps = run(tab, photo, ["gendr-pix*", "gendr", "gendr-adc", "gendr-pix"])
    shown = [step for step in steps if tab.viewer.slider in step]
    assert len(shown) == 5  # the input and four results
    assert value(shown[0][tab.viewer.slider])[0] == value(shown[0][tab.viewer.slider])[1]
    labels = [CHOICE_LABELS[name] for name in ("gendr-pix*", "gendr-pix", "gendr-adc", "gendr")]  # quickest first
    assert [step[tab.viewer.right]["value"] for step in shown[1:]] == labels
    assert [label for _, label in shown[-1][tab.viewer.right]["choices"]] == ["Input (bicubic)", *labels]
    first, second = (Image.open(path) for path in value(shown[-1][tab.viewer.slider]))
    assert first.size == second.size == (80, 72)
    assert first.tobytes() != second.tobytes()
    assert steps[0][tab.buttons.cancel]["interactive"] and not steps[0][tab.buttons.run]["interactive"]
    assert steps[-1][tab.buttons.run]["interactive"] and not steps[-1][tab.buttons.cancel]["interactive"]


def test_scorecard_fills_line_by_line(tab: CompareTab, photo: dict) -> None:
    tables = [value(step[tab.table]) for step in run(tab, photo, ["gendr", "gendr-pix*"]) if tab.table in step]
    assert "running …" in tables[0] and "waiting" in tables[0]
    assert "running …" in tables[1] and "waiting" not in tables[1]
    assert "running …" not in tables[2]
    header = tables[-1].splitlines()[0]
    assert all(word in header for word in ("Time", "Speed", "memory", "Grid score", "Device"))
    assert "×" not in tables[1] and "1.00×" in tables[2]  # the speeds are known when GenDR has run
    assert "float32" in tables[-1]


def test_page_says_that_musiq_is_missing(tab: CompareTab, photo: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = tab.handlers.engine._get_tools()[1]
    monkeypatch.setitem(scorer._unavailable, "musiq", "MUSIQ is not available: no network.")
    last = [step for step in run(tab, photo, ["gendr-pix*"]) if tab.table_notes in step][-1]
    assert "MUSIQ is not available: no network." in value(last[tab.table_notes])


def test_pair_can_be_chosen_and_stays(tab: CompareTab, photo: dict) -> None:
    running = stream(tab, photo, ["gendr", "gendr-adc", "gendr-pix*"])
    for step in running:
        if len(step.get(tab.viewer.right, {}).get("choices", [])) == 3:
            results = step[tab.session]
            chosen = tab.handlers.choose_pair(results, "GenDR-Pix*", "GenDR-Adc")
            files, download = chosen[tab.viewer.slider], chosen[tab.download]
            break
    assert [Path(path).name for path in files] == ["my_photo_gendr-pix-star.png", "my_photo_gendr-adc.png"]
    assert download["label"] == "Download GenDR-Adc as PNG"
    assert download["value"] == files[1]
    for step in running:
        if tab.viewer.right in step:
            assert (step[tab.viewer.left]["value"], step[tab.viewer.right]["value"]) == ("GenDR-Pix*", "GenDR-Adc")
    with pytest.raises(gr.Error, match="no result"):
        tab.handlers.choose_pair(results, "GenDR", "nonsense")


def test_guidance_off_turns_pix_into_pix_star(tab: CompareTab, photo: dict) -> None:
    steps = run(tab, photo, ["gendr-pix", "gendr-pix*"], scale=1.0, guidance="Off")
    assert steps[-2][tab.viewer.right]["choices"] == [
        ("1 Input (bicubic)", "Input (bicubic)"),
        ("2 GenDR-Pix*", "GenDR-Pix*"),
    ]
    assert [update["interactive"] for update in usable("Off")] == [False] * 5
    assert [update["interactive"] for update in usable("Plain CFG")] == [True] + [False] * 4
    assert [update["interactive"] for update in usable("PadCFG")] == [True] * 5


def test_cancel_keeps_what_is_ready(tab: CompareTab, photo: dict) -> None:
    running = stream(tab, photo, ["gendr", "gendr-pix*"])
    stop = next(running)[tab.buttons.stop]
    for _ in range(2):
        next(running)
    tab.buttons.press_cancel(stop)
    [updates] = running
    assert updates[tab.status] == "Cancelled. 1 finished result kept."
    assert "not run" in value(updates[tab.table])
    assert updates[tab.buttons.run]["interactive"]
    assert tab.handlers.ended(None, "Cancelled.")[tab.status] == "Cancelled. No restorer had finished."
    assert run(tab, photo, ["gendr-pix*"])  # the engine is free again


# Errors ------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def broken_files() -> dict[str, bytes]:
    """What users send by mistake or malice, by file name."""
    jpeg = io.BytesIO()
    Image.linear_gradient("L").save(jpeg, "JPEG")
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    claim = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    return {
        "empty.png": b"",
        "text.png": b"this is no picture",
        "cut.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "huge.png": claim + chunk(b"IEND", b""),
    }


@pytest.mark.parametrize("name", broken_files())
def test_broken_photo_gives_a_sentence(tab: CompareTab, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    photo = {"path": str(path), "orig_name": name}
    for call in (lambda: tab.handlers.check_photo(*values(tab, photo=photo)), lambda: run(tab, photo, ["gendr"])):
        with pytest.raises(gr.Error) as caught:
            call()
        assert caught.value.message.endswith(".")
        assert "Traceback" not in caught.value.message
        assert str(tmp_path) not in caught.value.message


def test_missing_inputs_are_said(tab: CompareTab, photo: dict) -> None:
    with pytest.raises(gr.Error, match="no photo yet"):
        run(tab, None, ["gendr"])
    with pytest.raises(gr.Error, match="No restorer"):
        run(tab, photo, [])
    with pytest.raises(gr.Error, match="scale is 9"):
        run(tab, photo, ["gendr"], scale=9.0)
    with pytest.raises(gr.Error, match="0 to 7"):
        run(tab, photo, ["gendr"], pos_rows=8)


def test_missing_weights_are_said(photo: dict, tmp_path: Path) -> None:
    with gr.Blocks():
        tab = CompareTab(Engine(str(tmp_path)))
    with pytest.raises(gr.Error, match="no weights of gendr"):
        run(tab, photo, ["gendr"])


def test_unexpected_errors_are_logged_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(gr.Error) as caught, user_errors():
        raise KeyError("internal detail")
    assert caught.value.message == UNEXPECTED
    assert "internal detail" in caplog.text
    with pytest.raises(gr.Error) as caught, user_errors():
        raise MemoryError
    assert caught.value.message == OUT_OF_MEMORY


# What holds without a run ------------------------------------------------------------------------------------------


def test_photo_sizes_are_told(tab: CompareTab, photo: dict) -> None:
    check = tab.handlers.check_photo
    assert value(check(*values(tab, photo=photo, scale=2.5))) == "40 × 36 pixels in, **100 × 90** out"
    assert value(check(*values(tab, photo=photo, by_size=True, size_px=100))) == "40 × 36 pixels in, **100 × 90** out"
    assert "a longer side of 1000 is out of reach: scale is 25;" in value(
        check(*values(tab, photo=photo, by_size=True, size_px=1000))
    )
    assert check(*values(tab, photo=None))["visible"] is False


def test_three_examples_are_bundled() -> None:
    assert len(example_photos()) == 3


def test_results_go_with_their_owner(tmp_path: Path) -> None:
    results = empty_results(Path("photo.png"))
    folder = results.folder
    assert save_result(Image.new("RGB", (2, 2)), folder, "../a b\0", "gendr-pix*").name == ".._a_b__gendr-pix-star.png"
    assert len(list(folder.iterdir())) == 1
    del results
    assert not folder.exists()


def test_weights_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GENDRPIX_WEIGHTS", raising=False)
    assert Engine().weights_name == "mini"
    monkeypatch.setenv("GENDRPIX_WEIGHTS", "someone/gendr-pix")
    assert Engine().weights_name == "someone/gendr-pix"
    monkeypatch.setenv("GENDRPIX_WEIGHTS", str(tmp_path / "."))
    assert Engine().weights_name == tmp_path.name


def test_the_page_imports_nothing_heavy() -> None:
    code = "import sys, app; print([name for name in ('torch', 'diffusers', 'pyiqa') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == []


def test_request_keeps_the_photos_own_name() -> None:
    uploaded = {"path": "/tmp/x/cached.png", "orig_name": "holiday.jpeg"}
    request = Request.of(uploaded, ["gendr"], RestoreSettings(guidance=1.5))
    assert (request.stem, request.photo, request.settings.guidance) == ("holiday", Path("/tmp/x/cached.png"), 1.5)

"""One settings object, one act: whatever way the settings come, they are the same and give the same pixels."""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
from gradio.exceptions import Error as GradioError
from hypothesis import given, settings
from hypothesis import strategies as st

from gendrpix import load_restorer, open_picture
from gendrpix.__main__ import main
from gendrpix.files import digest_file
from gendrpix.image.write import to_array
from gendrpix.settings import links, presets, reproduce
from gendrpix.settings.options import parse
from gendrpix.settings.recipe import Recipe, read_entry, weights_name, write_recipe
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import COLOR_FIXES, MAX_OMEGA, RESTORER_SPECS, Dtype
from gendrpix.ui.api import Endpoints
from gendrpix.ui.engine.engine import Engine
from gendrpix.weights.verify import digest_weights
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import photo
from tests.helpers.read import samples

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
offsets = st.none() | st.tuples(st.integers(0, 7), st.integers(0, 7))


@st.composite
def asked(draw: st.DrawFn, *, whole: bool = False) -> RestoreSettings:
    """Valid settings for a photo of 32 x 32 pixels. whole: those that every way restores with at once."""
    restorer = draw(st.sampled_from(list(RESTORER_SPECS)))
    most = 3.0 if whole else 8.0
    by_size = draw(st.booleans())
    size = {"size_px": draw(st.integers(SIDE, int(SIDE * most)))} if by_size else {"scale": draw(st.floats(1, most))}
    guidance: dict[str, Any] = {}
    if restorer == "gendr-pix" and draw(st.booleans()):
        guidance = {"guidance": draw(st.none() | st.floats(0, MAX_OMEGA)), "plain_cfg": draw(st.booleans())}
        if not guidance["plain_cfg"]:
            guidance |= {"pos_pad": draw(offsets), "neg_pad": draw(offsets)}
    stream = False if whole else draw(st.booleans())
    return RestoreSettings(
        restorer=restorer,
        **size,
        **guidance,
        crop=None if by_size else draw(st.none() | st.just((3, 5, 20, 17))),
        tile=draw(st.sampled_from(["auto", 128, 256] if stream else ["auto", None, 128])),
        batched=draw(st.booleans()),
        stream=stream,
        color_fix=draw(st.sampled_from(["none", "wavelet"] if stream else COLOR_FIXES)),
        dtype="float32" if whole else draw(st.sampled_from(get_args(Dtype))),
        bits=draw(st.sampled_from([8, 16])),
        speedups=draw(st.sampled_from([("channels_last_vae",), (), ("fused", "channels_last_unet")]))
        if not whole
        else ("channels_last_vae",),
    )


class Home:
    """Tiny weights, a photo, and the ways to restore it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = save_tiny_family(folder / "tiny")
        self.photo = folder / "photo.png"
        photo(SIDE, SIDE).save(self.photo)
        self.engine = Engine(str(self.weights))
        with gr.Blocks():
            self.endpoints = Endpoints(self.engine)

    def by_command(self, asked: RestoreSettings) -> Path:
        words = reproduce.to_words(asked, str(self.photo), str(self.folder / "out"), str(self.weights))
        assert main([*words, "--device", "cpu", "--overwrite"]) == 0
        return self.folder / "out" / self.photo.name

    def by_api(self, asked: RestoreSettings) -> Path:
        pads = dict(zip(("pos_rows", "pos_columns"), asked.pos_pad or (None, None), strict=True))
        pads |= dict(zip(("neg_rows", "neg_columns"), asked.neg_pad or (None, None), strict=True))
        names = ("size_px", "scale", "guidance", "plain_cfg", "color_fix", "crop", "bits", "tile", "batched")
        given = {name: getattr(asked, name) for name in names}
        made = self.endpoints.restore({"path": str(self.photo)}, asked.choice, **{**given, **pads})
        return Path(made["path"])

    def by_python(self, asked: RestoreSettings) -> Path:
        code = reproduce.to_python(asked.resolved(), str(self.photo), str(self.weights))
        code = code.replace('"restored.png"', repr(str(self.folder / "python.png")))
        (self.folder / "python.png").unlink(missing_ok=True)
        exec(code, {})
        return self.folder / "python.png"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@settings(max_examples=40)
@given(asked=asked())
def test_every_way_brings_the_same_settings(asked: RestoreSettings) -> None:
    named = asked.resolved()
    command = parse(reproduce.to_words(asked, "photo.png", "out"))
    assert command.settings == asked
    assert parse(reproduce.to_words(named, "photo.png", "out")).settings == named
    assert links.from_query(dict(parse_qsl(links.to_link(asked)))) == asked
    assert presets.from_json(presets.to_json(asked)) == asked
    assert Recipe.from_json(json.dumps(write_recipe(named, weights="mini"))).settings == named


@settings(max_examples=20)
@given(asked=asked(whole=True))
def test_every_way_gives_the_same_pixels(home: Home, asked: RestoreSettings) -> None:
    commanded = home.by_command(asked)
    entry = read_entry(commanded)
    again = Recipe.from_png(commanded).settings
    assert again == asked.resolved(dtype="float32")
    wanted = samples(commanded)
    api = home.by_api(asked)
    assert read_entry(api) == entry, "one writer: the page and the command line write the same JSON"
    assert np.array_equal(samples(api), wanted)
    assert np.array_equal(samples(home.by_python(asked)), wanted)
    for same in (
        again,
        links.from_query(dict(parse_qsl(links.to_link(asked)))),
        presets.from_json(presets.to_json(asked)),
    ):
        pipeline = load_restorer(same.restorer, home.weights)
        picture = open_picture(home.photo)
        if same.crop is not None:
            left, top, width, height = same.crop
            pixels = picture.color[..., top : top + height, left : left + width]
        else:
            pixels = picture.color
        made = to_array(pipeline.run(pixels, same).pixels, bits=same.bits)
        assert np.array_equal(made / np.iinfo(made.dtype).max, wanted)


def test_a_result_of_the_page_is_kept_by_the_command_line(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    asked = RestoreSettings(scale=1.5, pos_pad=(1, 2))
    folder = home.folder / "kept"
    folder.mkdir()
    (folder / home.photo.name).write_bytes(home.by_api(asked).read_bytes())
    words = reproduce.to_words(asked, str(home.photo), str(folder), str(home.weights))
    assert main([*words, "--device", "cpu"]) == 0
    assert "there already, kept" in capsys.readouterr().out
    recipe = json.loads(read_entry(folder / home.photo.name) or "")
    assert (recipe["guidance"], recipe["pos_pad"], recipe["neg_pad"]) == (1.5, [1, 2], [3, 3])
    assert recipe["weights"] == weights_name(home.weights) and recipe["input_sha256"] == digest_file(home.photo)
    assert recipe["weights_sha256"] == digest_weights(home.weights / "gendr-pix")


# What is refused ----------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"scale": 9}, "scale is 9; expected a number from 1 to 8."),
    ({"scale": 0.5}, "scale is 0.5; expected a number from 1 to 8."),
    ({"size_px": 0}, "size is 0; expected a whole number from 1 to 1000000."),
    ({"guidance": 4.0}, "guidance is 4; expected a number from 0 to 3."),
    ({"guidance": -0.5}, "guidance is -0.5; expected a number from 0 to 3."),
    ({"pos_pad": (1, 8)}, "pos_pad is (1, 8); expected two whole numbers from 0 to 7: rows, columns."),
    ({"neg_pad": (-1, 0)}, "neg_pad is (-1, 0); expected two whole numbers from 0 to 7: rows, columns."),
    (
        {"crop": (0, 0, 0, 5)},
        "crop is (0, 0, 0, 5); expected four whole numbers: left and top from 0, width and height from 1.",
    ),
    (
        {"tile": 100},
        "tile is 100; expected a multiple of 8, 128 or more, auto, or none for the whole picture at once.",
    ),
    (
        {"restorer": "gendr", "guidance": 1.5},
        "guidance is for gendr-pix only, not for gendr; leave out omega and offsets.",
    ),
    (
        {"plain_cfg": True, "pos_pad": (1, 1)},
        "plain_cfg guides without offsets; leave out the offsets, or plain_cfg.",
    ),
]


def by_words(bad: dict[str, Any]) -> None:
    words = ["restore", "a.png", "-o", "out"]
    for key, value in bad.items():
        option = "--size" if key == "size_px" else f"--{key.replace('_', '-')}"
        words += (
            [option, *map(str, value)] if isinstance(value, tuple) else [option] + [str(value)] * (value is not True)
        )
    parse(words)


def by_recipe(bad: dict[str, Any]) -> None:
    recipe = {"restorer": "gendr-pix", "scale": 2.0, "guidance": None}
    if "size_px" in bad:
        del recipe["scale"]
    Recipe.from_json(json.dumps({**recipe, **{"size" if key == "size_px" else key: bad[key] for key in bad}}))


def by_preset(bad: dict[str, Any]) -> None:
    presets.from_json(json.dumps({"format": presets.FORMAT, **bad}))


def by_link(bad: dict[str, Any]) -> None:
    names = {"size_px": "size", "guidance": "omega", "pos_pad": "pos", "neg_pad": "neg", "crop": "box"}
    query = {
        names.get(key, key): ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in bad.items()
    }
    if query.pop("plain_cfg", None):
        pytest.skip("a link of version 0.1.0 names offsets whatever the kind of guidance")
    links.from_query(query)


def by_program(bad: dict[str, Any]) -> None:
    RestoreSettings(**bad)


def by_pipeline(home: Home, bad: dict[str, Any]) -> None:
    load_restorer(bad.get("restorer", "gendr-pix"), home.weights)(
        home.photo, **{key: value for key, value in bad.items() if key != "restorer"}
    )


def by_endpoint(home: Home, bad: dict[str, Any]) -> None:
    given = {key: value for key, value in bad.items() if "pad" not in key}
    for key, pad in bad.items():
        if "pad" in key:
            given |= dict(zip((f"{key[:3]}_rows", f"{key[:3]}_columns"), pad, strict=True))
    home.endpoints.restore({"path": str(home.photo)}, **{"restorer": "gendr-pix", **given})


@pytest.mark.parametrize("way", [by_words, by_recipe, by_preset, by_link, by_program, by_pipeline, by_endpoint])
@pytest.mark.parametrize(("bad", "sentence"), BAD)
def test_every_way_refuses_with_the_same_sentence(
    home: Home, way: Callable[..., None], bad: dict[str, Any], sentence: str
) -> None:
    refuse = partial(way, home) if way in (by_pipeline, by_endpoint) else way
    with pytest.raises((ValueError, GradioError)) as caught:
        refuse(bad)
    said = caught.value.message if isinstance(caught.value, GradioError) else str(caught.value)
    assert said == sentence


# One place each ------------------------------------------------------------------------------------------------------


def count(pattern: str) -> list[str]:
    """Lines of the package that match, as file:text."""
    return [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "gendrpix").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    ]


def places(pattern: str) -> set[str]:
    """Files of the package that match. A network of others has a factor of its own, which is no setting."""
    return {line.split(":")[0] for line in count(pattern)} - {"gendrpix/baselines/restorer.py"}


def test_each_check_and_the_writer_stand_once() -> None:
    assert len(count(r"checked_number\(\"scale\"")) == 1
    assert len(count(r"checked_number\(\"guidance\"")) == 1
    names = r"(scale|omega|guidance)"
    assert places(rf"<=? *((self|settings|options)\.)?{names}\b|\b{names} *[<>](?! 0 or)") == set()
    assert places(r"\"weights_sha256\": (?!None|digest_weights)") == {"gendrpix/settings/recipe.py"}
    assert places(r"(?<!def )\bcorrect_color\(") == {"gendrpix/restore/restorer.py"}
    assert places(r"(?<!def )\brestore_within\(") == {"gendrpix/restore/restorer.py"}


def test_own_code_is_imported_late_at_two_doors_only() -> None:
    found: dict[str, int] = {}
    for path in (ROOT / "gendrpix").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                late = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
                own = [node for node in late if (node.module or "").split(".")[0] in ("gendrpix", "training")]
                if own:
                    name = path.relative_to(ROOT / "gendrpix").as_posix()
                    found[name] = found.get(name, 0) + len(own)
    assert all(name.startswith(("cli/", "ui/engine/")) for name in found), found
    assert sum(found.values()) <= 50


def test_settings_are_cheap_to_import() -> None:
    import subprocess
    import sys

    code = "import sys, gendrpix.settings.links, gendrpix.settings.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_replacing_keeps_what_was_asked() -> None:
    asked = RestoreSettings(size_px=64, pos_pad=(1, 2), bits=16)
    assert asked.guidance == 1.5 and asked.neg_pad is None
    assert asked.resolved(neg_pad=(0, 4)).pads == ((1, 2), (0, 4)), "the weights' own offsets"
    assert replace(asked, bits=8).size_px == 64
    assert asked.for_choice("gendr") == RestoreSettings(restorer="gendr", size_px=64, bits=16)
    assert asked.for_choice("gendr-pix*").choice == "gendr-pix*" == RestoreSettings(restorer="gendr-pix*").choice
    with pytest.raises(ValueError, match="not for gendr-pix\\*"):
        RestoreSettings(restorer="gendr-pix*", guidance=1)

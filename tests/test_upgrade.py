"""Files that version 0.1.0 (commit 761c089) has written are still read: weights, recipes, presets, links."""

import json
import zipfile
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image

from gendrpix import load_restorer
from gendrpix.settings import links, presets
from gendrpix.settings.checks import SettingsError
from gendrpix.settings.recipe import Recipe
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.compare.links import from_query
from tests.helpers.read import samples

OLD = Path(__file__).parent / "data" / "version_0_1_0"
GUIDED = RestoreSettings(scale=2.5, guidance=1.25, pos_pad=(1, 6), neg_pad=(3, 2), dtype="float32")
RECIPES = {
    "star": RestoreSettings(scale=2, dtype="float32"),
    "guided": GUIDED,
    "sized": RestoreSettings(size_px=30, color_fix="wavelet", bits=16, crop=(1, 2, 8, 6), dtype="float32"),
    "tiled": RestoreSettings(scale=2, tile=128, stream=True, dtype="float32"),
    "plain": RestoreSettings(scale=2, guidance=1.0, plain_cfg=True, dtype="float32"),
    "compared": RestoreSettings(scale=2, dtype="float32"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    recipe = Recipe.from_png(OLD / f"{name}.png")
    assert recipe.settings == RECIPES[name]
    assert recipe.weights == "weights" and len(recipe.weights_sha256) in (0, 64)


def test_an_omega_that_the_command_line_took_and_the_page_refused() -> None:
    with pytest.raises(SettingsError, match="guidance is 4; expected a number from 0 to 3"):
        Recipe.from_png(OLD / "four.png")


@pytest.mark.parametrize("name", ["star", "guided", "sized", "plain"])
def test_weights_give_the_pixels_of_their_recipe(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(OLD / "weights.zip") as packed:
        packed.extractall(tmp_path)
    with Image.open(OLD / f"{name}.png") as image:
        size = image.size
    settings = Recipe.from_png(OLD / f"{name}.png").settings
    how = {key: getattr(settings, key) for key in ("size_px", "scale", "guidance", "pos_pad", "neg_pad", "plain_cfg")}
    how |= {"crop": settings.crop, "color_fix": settings.color_fix}
    restored = load_restorer("gendr-pix", tmp_path)(OLD / "photo.png", **how, output_type="np").images[0]
    assert restored.shape == (size[1], size[0], 3)
    assert np.abs(restored - samples(OLD / f"{name}.png")).max() <= 1.1 / 255  # other processors round otherwise


def test_presets() -> None:
    own = RestoreSettings(guidance=0.35, pos_pad=(7, 0), neg_pad=(0, 7))
    assert presets.from_json((OLD / "preset.json").read_bytes()) == own
    assert presets.from_json((OLD / "preset_none.json").read_bytes()) == RestoreSettings()


def test_links() -> None:
    padcfg, off, plain = (dict(parse_qsl(text)) for text in json.loads((OLD / "links.json").read_text()))
    found = from_query(padcfg)
    assert found == {
        "restorers": ["gendr", "gendr-pix"], "by_size": False, "scale": 2.5, "guidance": "PadCFG", "omega": 1.25,
        "pos_rows": 1, "pos_columns": 6, "neg_rows": 3, "neg_columns": 2, "crop": True, "across": 40, "down": 60,
        "side_px": 96, "repeats": 3, "color_fix": "adain", "bits": 16,
    }  # fmt: skip
    assert links.from_query(off) == RestoreSettings(size_px=1024, color_fix="adain", bits=16)
    assert links.from_query(plain) == RestoreSettings(
        scale=2.5, guidance=1.25, plain_cfg=True, color_fix="adain", bits=16
    )

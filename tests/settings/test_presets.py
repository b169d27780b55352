"""Settings from files: what is written is read back, everything else is refused in a sentence."""

import json

import pytest
from PIL import Image

from gendrpix.image.write import save_png
from gendrpix.settings.checks import MAX_BYTES, SettingsError
from gendrpix.settings.presets import PRESETS, from_json, to_json
from gendrpix.settings.recipe import Recipe, png_entries
from gendrpix.settings.restoration import RestoreSettings

GOOD = {"format": "gendrpix guidance 1", "kind": "padcfg", "omega": 1.5, "pos_pad": [4, 4], "neg_pad": [3, 3]}
"""As version 0.1.0 wrote it."""
RECIPE = {
    "restorer": "gendr-pix",
    "weights": "mini",
    "scale": 4.0,
    "guidance": 1.5,
    "pos_pad": [1, 2],
    "neg_pad": [3, 4],
}
UNPADDED = {key: value for key, value in RECIPE.items() if "pad" not in key}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name: str) -> None:
    assert from_json(to_json(PRESETS[name])) == PRESETS[name]
    own = RestoreSettings(guidance=0.35, pos_pad=(7, 0), neg_pad=(0, 7), size_px=900, tile=256)
    assert from_json(to_json(own).encode()) == own


def test_presets_of_before_are_read() -> None:
    assert from_json(json.dumps(GOOD)) == PRESETS["Paper"]
    assert from_json(json.dumps({**GOOD, "kind": "plain", "omega": 2})) == RestoreSettings(plain_cfg=True, guidance=2)
    assert from_json(json.dumps({**GOOD, "kind": "none"})) == RestoreSettings()


def test_unknown_keys_are_refused() -> None:
    document = json.loads(to_json(PRESETS["Paper"]))
    with pytest.raises(SettingsError, match="has 'sharpness'; expected some of"):
        from_json(json.dumps({**document, "sharpness": 1}))
    del document["tile"], document["bits"]
    assert from_json(json.dumps(document)) == PRESETS["Paper"]


@pytest.mark.parametrize(
    "change",
    [
        {"omega": "1.5"},
        {"omega": True},
        {"omega": 3.5},
        {"omega": None},
        {"omega": 10**400},
        {"kind": "best"},
        {"kind": ["padcfg"]},
        {"pos_pad": [4]},
        {"pos_pad": [4, 8]},
        {"neg_pad": [4.0, 3]},
        {"neg_pad": [True, 3]},
        {"neg_pad": {"0": 1, "1": 2}},
        {"format": "gendrpix guidance 2"},
        {"extra": 1},
    ],
)
def test_wrong_values_are_refused(change: dict) -> None:
    with pytest.raises(SettingsError, match=r"expected") as caught:
        from_json(json.dumps({**GOOD, **change}))
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "not json",
        b"\xff\xfe",
        b"\x89PNG",
        json.dumps(GOOD) + "x",
        json.dumps(GOOD).replace("1.5", "NaN"),
        json.dumps(GOOD).replace('"omega"', '"kind": "none", "omega"'),
        json.dumps({key: value for key, value in GOOD.items() if key != "omega"}),
        " " * (MAX_BYTES + 1),
        "[" * 4000,
    ],
)
def test_other_files_are_refused(text: str | bytes) -> None:
    with pytest.raises(SettingsError):
        from_json(text)


def test_recipe_is_read_from_a_png(tmp_path) -> None:
    path = save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", metadata=png_entries(RECIPE))
    recipe = Recipe.from_png(path)
    assert recipe.settings == RestoreSettings(scale=4, guidance=1.5, pos_pad=(1, 2), neg_pad=(3, 4))
    with pytest.raises(SettingsError, match="no recipe"):
        Recipe.from_png(save_png(Image.new("RGB", (8, 8)), tmp_path / "b.png"))


def test_recipes_without_guidance_are_pix_star() -> None:
    recipe = Recipe.from_json(json.dumps({**UNPADDED, "guidance": None}))
    assert recipe.settings.choice == "gendr-pix*"
    plain = Recipe.from_json(json.dumps({**UNPADDED, "plain_cfg": True}))
    assert plain.settings.kind == "plain" and plain.settings.guidance == 1.5
    sized = Recipe.from_json(json.dumps({"restorer": "gendr", "size": 512}))
    assert (sized.settings.scale, sized.settings.size_px, sized.weights) == (None, 512, "")


@pytest.mark.parametrize(
    "change",
    [{"restorer": "esrgan"}, {"restorer": []}, {"scale": 9}, {"scale": "4"}, {"guidance": "1"}, {"pos_pad": "44"}],
)
def test_wrong_recipes_are_refused(change: dict) -> None:
    with pytest.raises(SettingsError):
        Recipe.from_json(json.dumps({**RECIPE, **change}))
    with pytest.raises(SettingsError, match="neither"):
        Recipe.from_json(json.dumps({"restorer": "gendr"}))

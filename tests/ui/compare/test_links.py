"""Settings in a link: what the page writes it reads, and nothing else gets in."""

from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendrpix.settings.checks import SettingsError
from gendrpix.specs import CHOICE_LABELS, COLOR_FIXES
from gendrpix.ui.compare.links import from_query, to_query
from gendrpix.ui.compare.tab import CompareTab
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.panels.guidance import GUIDANCE_NAMES
from gendrpix.ui.widgets.inputs import example_photos
from tests.helpers.comparing import values
from tests.helpers.pictures import photo

whole = st.integers(0, 7)


@pytest.fixture(scope="module")
def tab() -> CompareTab:
    with gr.Blocks():
        return CompareTab(Engine("nowhere"))


@given(
    settings=st.fixed_dictionaries(
        {
            "restorers": st.lists(st.sampled_from(list(CHOICE_LABELS)), min_size=1, unique=True),
            "by_size": st.booleans(),
            "scale": st.integers(4, 32).map(lambda quarters: quarters / 4),
            "size_px": st.integers(1, 9999),
            "guidance": st.sampled_from(list(GUIDANCE_NAMES.values())),
            "omega": st.integers(0, 60).map(lambda steps: steps / 20),
            **dict.fromkeys(("pos_rows", "pos_columns", "neg_rows", "neg_columns"), whole),
            "crop": st.booleans(),
            **dict.fromkeys(("across", "down"), st.integers(0, 100)),
            "side_px": st.integers(16, 512),
            "repeats": st.integers(1, 9),
            "color_fix": st.sampled_from(COLOR_FIXES),
            "bits": st.sampled_from((8, 16)),
            "photo": st.none(),
        }
    )
)
def test_a_link_gives_the_settings_back(settings: dict) -> None:
    found = from_query(dict(parse_qsl(to_query(settings))))
    unsaid = {"photo", "scale" if settings["by_size"] else "size_px"}
    unsaid |= set() if settings["crop"] else {"crop", "across", "down", "side_px"}
    unsaid |= {"omega"} if settings["guidance"] == "Off" else set()
    unsaid |= set() if settings["guidance"] == "PadCFG" else {"pos_rows", "pos_columns", "neg_rows", "neg_columns"}
    unsaid |= {name for name, usual in (("color_fix", "none"), ("bits", 8)) if settings[name] == usual}
    assert found == {name: value for name, value in settings.items() if name not in unsaid}


def test_the_tabs_own_settings_make_a_link(tab: CompareTab) -> None:
    example = example_photos()[0]
    photo = {"path": f"/tmp/gradio/abc/{example.name}", "orig_name": example.name}
    link = tab.share.write_link("http://here/", *values(tab, photo=photo, size_px=512, by_size=True))
    assert link.startswith("http://here/?restorers=gendr,gendr-adc,gendr-pix,gendr-pix*&size=512&guidance=padcfg")
    found = from_query(dict(parse_qsl(link.split("?")[1])))
    assert Path(found["photo"]) == example
    assert "example" not in to_query(dict(zip(tab.inputs, values(tab, photo={"path": "/tmp/mine.png"}), strict=True)))


def test_a_link_sets_the_widgets(tab: CompareTab) -> None:
    class Asked:
        query_params = {"__theme": "dark", "size": "900", "guidance": "plain", "crop": "25,75,64"}  # noqa: RUF012

    updates = tab.handlers.take_link(Asked())
    assert updates[tab.size_px] == {"value": 900, "visible": True, "__type__": "update"}
    assert updates[tab.scale]["visible"] is False and updates[tab.by_size] is True
    assert updates[tab.padcfg.kind] == "Plain CFG"
    assert (updates[tab.crop.use], updates[tab.crop.across], updates[tab.crop.side]) == (True, 25.0, 64)
    assert not {tab.photo, tab.restorers} & updates.keys()


def test_an_address_without_settings_changes_nothing(tab: CompareTab) -> None:
    """Gradio takes an empty mapping for a single value, and says at each loading that the others are missing."""
    assert tab.handlers.take_link(SimpleNamespace(query_params={"__theme": "dark"})) == gr.skip()


@pytest.mark.parametrize(
    "query",
    [
        {"restorers": "gendr,nonsense"},
        {"scale": "9"},
        {"scale": "nan"},
        {"scale": "four"},
        {"size": "0"},
        {"omega": "1e9"},
        {"pos": "8,0"},
        {"pos": "1"},
        {"repeats": "1000"},
        {"color_fix": "sepia"},
        {"bits": "12"},
        {"crop": "1,2"},
        {"example": "../../etc/passwd"},
        {"guidance": ""},
    ],
)
def test_what_a_link_must_not_say_is_refused(query: dict) -> None:
    with pytest.raises(SettingsError) as caught:
        from_query(query)
    assert str(caught.value).endswith(".")


def test_the_click_on_the_crop_goes_through_the_pages_gate(tab: CompareTab, tmp_path: Path) -> None:
    click = SimpleNamespace(index=[10, 30])
    photo(40, 40).save(tmp_path / "shown.webp")
    photo(40, 40).save(tmp_path / "odd.pcx")  # Pillow reads it, this page does not
    assert tab.crop.take_place({"path": str(tmp_path / "shown.webp")}, click) == (25, 75, True)
    with pytest.raises(gr.Error, match="is not a picture"):
        tab.crop.take_place({"path": str(tmp_path / "odd.pcx")}, click)

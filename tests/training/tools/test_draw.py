"""Pictures drawn by code: seeded, of all kinds, with smooth edges; fonts by script; their share of the crops."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from training.__main__ import main
from training.config import DataConfig
from training.data.crops import CropDataset, open_crops
from training.data.degradation import sample_rng
from training.data.degradation_presets import PRESETS
from training.data.photos import PhotoFolder
from training.data.sample import CropSettings
from training.tools.draw import KINDS, DrawConfig, draw, draw_picture, kind_of, picture_name
from training.tools.drawing.canvas import BLACK, WHITE, Canvas, curve, dense, halftone, points, swelling
from training.tools.drawing.fonts import ALPHABETS, Fonts, find_fonts, load_font, phrase
from training.tools.drawing.signs import perspective

SIDE = 192
MATPLOTLIB_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def fonts() -> Fonts:
    """matplotlib's own fonts, which are there on every machine."""
    return find_fonts([MATPLOTLIB_FONTS])


# Fonts ------------------------------------------------------------------------------------------------------


def test_fonts_are_known_by_the_scripts_they_write(fonts: Fonts) -> None:
    named = {path.stem: scripts for path, scripts in fonts.files}
    assert named["DejaVuSans"] == {"latin", "greek", "cyrillic"}
    assert not any(name.startswith(("cmr", "cmsy", "STIXSiz", "LastResort")) for name in named), "fonts for formulas"
    assert "Mono" in fonts.choose(sample_rng(0, 0), "mono").stem
    for script in ("latin", "greek", "cyrillic"):
        words = phrase(sample_rng(0, 1), 12, script)
        letters = [letter for letter in words if letter.isalpha()]
        assert letters and all(letter.lower() in ALPHABETS[script].lower() for letter in letters)


def test_a_folder_without_fonts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(ValueError, match="pass --fonts with a folder"):
        find_fonts([tmp_path])


# Canvas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 4])
def test_shapes_have_their_area_and_smooth_edges(factor: int) -> None:
    for draw_shape, area in (
        (lambda c: c.ellipse(32.3, 31.7, 20, 14, BLACK), math.pi * 20 * 14),
        (lambda c: c.polygon(points((8.5, 9.0), (55.0, 20.5), (20.0, 50.0)), BLACK), 887.1),
        (lambda c: c.box(10, 12, 50, 40, BLACK, radius=8), 40 * 28 - (4 - math.pi) * 64),
    ):
        canvas = Canvas(64, 64, factor)
        draw_shape(canvas)
        ink = 1 - np.asarray(canvas.finish().convert("L")) / 255
        assert ink.sum() == pytest.approx(area, rel=0.04)
        assert len(np.unique(ink)) > 6, "edges have levels between paper and ink"


def test_a_stroke_is_as_wide_as_asked_and_closed_at_corners() -> None:
    canvas = Canvas(80, 80, 4)
    canvas.stroke(points((10, 40), (70, 40)), [6.0, 6.0], BLACK)
    ink = 1 - np.asarray(canvas.finish().convert("L")) / 255
    assert ink[:, 40].sum() == pytest.approx(6, abs=0.4)
    canvas = Canvas(80, 80, 4)
    canvas.stroke(points((10, 10), (60, 10), (60, 60)), [4.0, 4.0, 4.0], BLACK)
    ink = 1 - np.asarray(canvas.finish().convert("L")) / 255
    assert ink[:, 35].sum() == pytest.approx(4, abs=0.4) and ink[10, 60] > 0.9


def test_curves_go_through_their_points() -> None:
    through = points((0, 0), (10, 5), (20, -5), (30, 0))
    way = curve(through, steps=10)
    assert all(np.hypot(*(way - point).T).min() < 1e-9 for point in through)
    ring = curve(through, closed=True, steps=10)
    assert len(ring) == 40 and np.hypot(*(ring[0] - ring[-1])) < 5
    both, widths = dense(through, np.array([1.0, 2.0, 3.0, 4.0]), longest=2.0)
    assert np.hypot(*np.diff(both, axis=0).T).max() <= 2.0 and widths[0] == 1 and widths[-1] == 4
    assert swelling(21, 3.0)[10] == pytest.approx(3.0)


def test_halftone_covers_as_much_as_the_tone() -> None:
    for tone in (0.0, 0.2, 0.5, 0.8, 1.0):
        covered = np.asarray(halftone(np.full((240, 240), tone), 12.0, 0.4)).mean() / 255
        assert covered == pytest.approx(tone, abs=0.09)


def test_perspective_takes_corners_to_corners() -> None:
    onto, source = points((10, 5), (90, 12), (84, 70), (4, 60)), points((0, 0), (50, 0), (50, 30), (0, 30))
    a, b, c, d, e, f, g, h = perspective(onto, source)
    for (x, y), (u, v) in zip(onto, source, strict=True):
        below = g * x + h * y + 1
        assert ((a * x + b * y + c) / below, (d * x + e * y + f) / below) == pytest.approx((u, v))


# Pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(12))
def test_pictures_follow_from_seed_and_number(fonts: Fonts, number: int) -> None:
    picture = draw_picture(3, number, fonts, SIDE)
    assert picture.size == (SIDE, SIDE) and picture.mode == "RGB"
    assert np.asarray(picture).std() > 8, "something is on it"
    load_font.cache_clear()
    assert picture.tobytes() == draw_picture(3, number, fonts, SIDE).tobytes()
    assert picture.tobytes() != draw_picture(4, number, fonts, SIDE).tobytes()


def test_the_command_draws_what_is_missing(tmp_path: Path) -> None:
    words = ["draw", "--out", str(tmp_path), "--count", "6", "--seed", "2", "--side-px", "128"]
    words += ["--fonts", str(MATPLOTLIB_FONTS)]
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(picture_name(2, n) for n in range(6))
    assert {kind_of(number) for number in range(6)} == set(KINDS)
    kept, missing = tmp_path / picture_name(2, 0), tmp_path / picture_name(2, 1)
    Image.new("RGB", (4, 4)).save(kept)
    before = missing.read_bytes()
    missing.unlink()
    assert main(words) == 0
    assert Image.open(kept).size == (4, 4) and missing.read_bytes() == before
    assert main([*words, "--overwrite"]) == 0
    assert Image.open(kept).size == (128, 128)


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count is 0"):
        DrawConfig(out=tmp_path, count=0)
    with pytest.raises(ValueError, match="side_px is 64"):
        DrawConfig(out=tmp_path, side_px=64)
    assert draw(DrawConfig(out=tmp_path / "new", count=1, side_px=128, fonts=(MATPLOTLIB_FONTS,))).is_dir()


# Their share of the crops -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three folders: four photos, two more, and one drawing, half of it paper."""
    root = tmp_path_factory.mktemp("pictures")
    for name, count in (("photos", 4), ("more", 2)):
        (root / name).mkdir()
        for number in range(count):
            levels = np.random.default_rng(number + count).integers(0, 256, (80, 96, 3), dtype=np.uint8)
            Image.fromarray(levels).save(root / name / f"{name}{number}.png")
    (root / "drawn").mkdir()
    page = Image.new("RGB", (400, 400), WHITE)
    page.paste(Image.fromarray(np.random.default_rng(9).integers(0, 256, (400, 200, 3), dtype=np.uint8)))
    page.save(root / "drawn" / "page.png")
    return {path.name: path for path in root.iterdir()}


def test_drawn_pictures_take_their_share_and_dull_crops_are_rare(places: dict[str, Path]) -> None:
    config = DataConfig(folder=places["photos"], drawn=places["drawn"], drawn_share=0.4, crop_px=32, candidates=1)
    train, held_out = open_crops(config, seed=0)
    assert isinstance(train, CropDataset) and train.drawn is not None and held_out.drawn is None
    samples = [train.sample(index) for index in range(600)]
    drawn = [sample for sample in samples if sample.photo.name == "page.png"]
    assert abs(len(drawn) / 600 - 0.4) < 4 * math.sqrt(0.4 * 0.6 / 600)
    assert np.mean([float(sample.hq.std()) == 0 for sample in drawn]) < 0.12, "paper alone in half of the page"
    assert torch.equal(train.sample(17).hq, open_crops(config, seed=0)[0].sample(17).hq)
    assert ("drawn:page.png", (places["drawn"] / "page.png").stat().st_size) in train.fingerprint()


def test_without_drawn_pictures_nothing_changes(places: dict[str, Path]) -> None:
    settings = CropSettings(crop_px=32, degradation=PRESETS["photo"], negative_probability=0.1, candidates=2)
    photos = PhotoFolder(places["photos"])
    rng = sample_rng(7, 5)
    first = photos.paths[photos.choose(rng.random())]
    assert CropDataset(photos, settings, seed=7).sample(5).photo == first
    share = CropDataset(photos, settings, seed=7, drawn_share=0.9)
    assert torch.equal(share.sample(5).lq, CropDataset(photos, settings, seed=7).sample(5).lq)
    assert [name for name, _ in share.fingerprint()] == [path.name for path in photos.paths]


def test_several_folders_are_one(places: dict[str, Path]) -> None:
    config = DataConfig(folder=places["photos"], more_folders=(places["more"],), crop_px=32)
    train, held_out = open_crops(config, seed=0)
    assert isinstance(train, CropDataset)
    names = [name for name, _ in [*train.fingerprint(), *held_out.fingerprint()]]
    assert sorted(names) == ["more0.png", "more1.png", "photos0.png", "photos1.png", "photos2.png", "photos3.png"]
    with pytest.raises(ValueError, match="is no folder"):
        open_crops(dataclasses.replace(config, more_folders=(places["more"] / "nothing",)), seed=0)


def test_impossible_data_settings_are_refused(places: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="drawn_share is 0"):
        DataConfig(folder=places["photos"], drawn=places["drawn"], drawn_share=0.0)
    with pytest.raises(ValueError, match="stream takes the place of folders"):
        DataConfig(folder=places["photos"], drawn=places["drawn"], stream="hub:x")

"""Pictures are read as meant: a sample of the generated kinds, and those that public reports found wrong."""

import io
import itertools
import struct

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from gendrpix.errors import PictureError
from gendrpix.image.boxes import MAX_BOXES, read_boxes
from gendrpix.image.color_space import PRIMARIES, ColorSpace, conversion, from_codes, to_srgb
from gendrpix.image.read import find_pictures, open_picture, read_size
from gendrpix.image.resize import resize, resize_alpha
from gendrpix.image.transparency import flattened
from gendrpix.image.write import save_png, to_array
from tests.helpers import picture_kinds as kinds
from tests.helpers.pictures import assert_sentence, encoded, photo, pixels

ALL = list(kinds.all_kinds())
SAMPLE = [ALL[number] for number in np.random.default_rng(23).choice(len(ALL), 60, replace=False)]


@pytest.mark.parametrize("kind", SAMPLE, ids=lambda kind: kind.name.replace(" ", "-"))
def test_a_kind_is_read_as_what_it_holds(kind: kinds.Kind) -> None:
    error, said = kinds.error_of(kind)
    assert error is not None and error <= kind.tolerance * 255, (error, said)


def test_there_are_many_kinds() -> None:
    assert len(ALL) >= 500 and len({kind.name for kind in ALL}) == len(ALL)


# TIFF


def tiff(samples: np.ndarray, bits: int = 8, photometric: int = 2, **tags: object) -> bytes:
    return kinds.tiff_bytes(samples, bits, photometric, 1, False, **tags)


def pages(*parts: bytes) -> bytes:
    """Little-endian TIFFs as one file of several pages, their offsets moved."""
    whole = bytearray(parts[0])
    for part in parts[1:]:
        shift = len(whole) + len(whole) % 2
        whole += b"\0" * (shift - len(whole))
        last = struct.unpack_from("<I", whole, 4)[0]
        while following := struct.unpack_from("<I", whole, last + 2 + 12 * struct.unpack_from("<H", whole, last)[0])[0]:
            last = following
        count = struct.unpack_from("<H", whole, last)[0]
        moved = bytearray(part)
        start = struct.unpack_from("<I", moved, 4)[0]
        for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", moved, start)[0], 12):
            tag, kind, number = struct.unpack_from("<HHI", moved, at)
            size = number * {1: 1, 3: 2, 4: 4}[kind]
            value = struct.unpack_from("<I", moved, at + 8)[0]
            if size > 4:
                struct.pack_into("<I", moved, at + 8, value + shift)
            if tag == 273:
                where, several = (value, True) if size > 4 else (at + 8, False)
                for n in range(number if several else 1):
                    old = struct.unpack_from("<I", moved, where + 4 * n)[0]
                    struct.pack_into("<I", moved, where + 4 * n, old + shift)
        struct.pack_into("<I", whole, last + 2 + 12 * count, start + shift)
        whole += moved
    return bytes(whole)


PICTURE = np.asarray(photo(37, 23)).astype(np.float64)
SMALL = np.full((5, 6, 3), 9.0)


def test_the_page_that_is_no_reduced_copy_is_read() -> None:
    data = pages(tiff(SMALL, t254=(4, [1])), tiff(PICTURE))
    picture = open_picture(data)
    assert np.array_equal(pixels(picture), PICTURE) and picture.notes == (
        "page 2 is read: those before it are reduced copies",
    )
    old = open_picture(pages(tiff(SMALL, t255=(3, [2])), tiff(PICTURE), tiff(SMALL)))
    assert np.array_equal(pixels(old), PICTURE) and old.notes[1] == "first of 2 frames"
    pyramid = open_picture(pages(tiff(PICTURE), tiff(SMALL, t254=(4, [1]))))
    assert np.array_equal(pixels(pyramid), PICTURE) and pyramid.notes == ()
    alone = open_picture(tiff(SMALL, t254=(4, [1])))
    assert alone.width == 6 and "reduced copies alone" in alone.notes[0]
    assert read_size_of(data) == (23, 37)


def read_size_of(data: bytes) -> tuple[int, int]:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        path.write_bytes(data)
        return read_size(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("mark.tif", pages(tiff(SMALL, t254=(4, [1]), t50706=(4, [0x0401])), tiff(PICTURE))),
        ("sensor.tif", pages(tiff(SMALL, t254=(4, [1])), tiff(PICTURE[..., :1], photometric=32803))),
        ("name.NEF", tiff(SMALL)),
        ("name.arw", tiff(SMALL)),
        ("canon.tif", b"II*\0\x10\0\0\0CR\x02\0" + bytes(40)),
        ("fuji.raf", b"FUJIFILMCCD-RAW 0201" + bytes(80)),
        ("canon.cr3", b"\0\0\0\x18ftypcrx " + bytes(80)),
        ("panasonic.rw2", b"IIU\0" + bytes(80)),
    ],
)
def test_raw_files_are_refused_with_the_remedy(name: str, data: bytes, tmp_path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PictureError) as caught:
        open_picture(path)
    assert_sentence(str(caught.value))
    if name != "canon.tif":  # its pages are missing too
        assert "raw file of a camera" in str(caught.value) and "develop it" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        tiff(PICTURE[..., :1], photometric=32844),  # LogL
        tiff(np.zeros((4, 4, 1)), photometric=1, t339=(3, [2])),  # signed
        tiff(np.zeros((4, 4, 3)), t258=(3, [8, 8, 16])),
        tiff(np.zeros((4, 4, 2)), photometric=0, t338=(3, [1])),  # premultiplied ink
        tiff(np.zeros((4, 4, 3)), bits=16, photometric=8),
        tiff(PICTURE, t279=(4, [0])),
        tiff(PICTURE, t279=(4, [10**9])),
        tiff(PICTURE, t273=(4, [10**9])),
    ],
)
def test_what_the_tags_do_not_make_certain_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        open_picture(data)
    assert_sentence(str(caught.value))


def test_tiff_tags_of_colour_and_of_too_many_channels() -> None:
    value = kinds.signalled("p3", grey=False)[0]
    scale = 10**6
    coded = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06]
    buffer = io.BytesIO()
    rational = tuple(number for one in coded for number in (round(one * scale), scale))
    extratags = [(319, 5, 6, rational, True)]
    tifffile.imwrite(buffer, np.rint(value * 65535).astype(np.uint16), photometric="rgb", extratags=extratags)
    picture = open_picture(buffer.getvalue())
    assert np.abs((picture.color[0].permute(1, 2, 0).numpy() + 1) / 2 - kinds.base_picture()).max() < 1 / 255
    four = np.concatenate([PICTURE, PICTURE[..., :1]], axis=-1)
    picture = open_picture(tiff(four, t338=(3, [0])))
    assert picture.alpha is None and "not used" in picture.notes[0] and np.array_equal(pixels(picture), PICTURE)
    indices = np.array([[[0, 255], [1, 51]]], np.float64)
    picture = open_picture(tiff(indices, photometric=3, t338=(3, [2]), t320=(3, palette_of([(255, 0, 0), (0, 9, 1)]))))
    assert pixels(picture)[0].tolist() == [[255, 0, 0], [0, 9, 1]] and picture.alpha is not None
    assert torch.allclose(picture.alpha.flatten(), torch.tensor([1.0, 0.2]))
    wide = open_picture(tiff(np.full((2, 2, 1), 30_000.0), bits=32, photometric=1))
    assert "largest is 30000" in wide.notes[0] and wide.color[0, 0, 0, 0] == pytest.approx(30_000 / 65535 * 2 - 1)


def palette_of(colors: list[tuple[int, int, int]]) -> list[int]:
    """TIFF's colour map of 256 entries, 16 bits."""
    return [257 * value for channel in zip(*colors, strict=True) for value in (*channel, *[0] * (256 - len(colors)))]


# Colour told otherwise


def test_display_p3_has_its_published_value() -> None:
    color = np.array([200, 100, 50], np.float32).reshape(3, 1, 1) / 255
    space, note = from_codes(12, 13)
    assert space is not None and note is None
    assert np.rint(to_srgb(color, space)[0].ravel() * 255).tolist() == [215, 93, 31]


@pytest.mark.parametrize("code", sorted(PRIMARIES))
def test_white_stays_white(code: int) -> None:
    assert np.abs(conversion(PRIMARIES[code]) @ np.ones(3) - 1).max() < 1e-3


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_rolled_off_and_said_so(transfer: int) -> None:
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[None, None], 3, axis=0)
    space, _ = from_codes(9, transfer)
    assert space is not None
    shown, note = to_srgb(ramp.copy(), space)
    assert note is not None and "tone-mapped" in note
    assert (
        (np.diff(shown[0, 0]) >= -1e-5).all() and shown[0, 0, 0] == 0 and shown[0, 0, -1] == pytest.approx(1, abs=1e-3)
    )
    assert np.abs(shown[0] - shown[2]).max() < 1e-3  # grey stays grey
    assert 0.5 < shown[0, 0, 120 if transfer == 16 else 150] < 0.95


def test_unknown_codes_and_forbidden_matrices_are_noted() -> None:
    for chunk, words in ((bytes([99, 13, 0, 1]), "not known"), (bytes([9, 16, 9, 1]), "matrix 9")):
        picture = open_picture(kinds.png_bytes(PICTURE, 8, [(b"cICP", chunk)]))
        assert words in picture.notes[0] and np.array_equal(pixels(picture), PICTURE)


def test_adobe_rgb_is_told_by_exif_alone() -> None:
    for color_space, index in ((2, None), (0xFFFF, "R03")):
        exif = Image.Exif()
        exif[0x8769] = {0xA001: color_space} | ({0xA005: {1: index}} if index else {})
        color = Image.new("RGB", (16, 16), (200, 100, 50))
        for name, options in (("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True})):
            shown = pixels(open_picture(encoded(color, name, exif=exif, **options)))[8, 8].astype(int)
            assert np.abs(shown - (228, 100, 41)).max() <= 3, (name, shown)
    assert pixels(open_picture(encoded(color, exif=Image.Exif())))[0, 0].tolist() == [200, 100, 50]
    solid = np.full((4, 4, 3), (200.0, 100.0, 50.0))
    for value in (2, 1):
        ifd = struct.pack("<HHHIII", 1, 0xA001, 3, 1, value, 0)
        data = tiff(solid, t34665=(4, [len(tiff(solid, t34665=(4, [0])))])) + ifd
        expected = (228, 100, 41) if value == 2 else (200, 100, 50)
        assert np.abs(pixels(open_picture(data))[0, 0].astype(int) - expected).max() <= 1


def test_gain_maps_and_profileless_cmyk_are_noted() -> None:
    xmp = b'<x hdrgm:Version="1.0"/>'
    assert "gain map" in open_picture(encoded(photo(), "JPEG", xmp=xmp)).notes[0]
    assert "CMYK without" in open_picture(encoded(photo().convert("CMYK"), "JPEG")).notes[0]
    assert "CMYK without" in open_picture(encoded(photo().convert("CMYK"), "TIFF")).notes[0]


def test_grey_heic_of_limited_range() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    levels = np.repeat(np.array([16, 89, 162, 235], np.uint8), 16)[None].repeat(64, axis=0)
    for bits in (8, 10):
        stored = levels if bits == 8 else levels.astype(np.uint16) * 4 * 64
        mode = "L" if bits == 8 else "I;16"
        image = pillow_heif.from_bytes(mode, (64, 64), np.ascontiguousarray(stored).tobytes())
        buffer = io.BytesIO()
        image.save(buffer, quality=-1, color_primaries=1, transfer_characteristics=13, matrix_coefficients=6)
        for full in (0, 1):
            data = bytearray(buffer.getvalue())
            at = data.find(b"nclx")
            data[at + 10] = 128 * full
            picture = open_picture(bytes(data))
            assert picture.grey
            found = pixels(picture)[32, 8::16, 0].astype(int)
            assert np.abs(found - ([16, 89, 162, 235] if full else [0, 85, 170, 255])).max() <= 1, (bits, full, found)


def test_hostile_boxes_end_in_time() -> None:
    nested = b""
    for _ in range(200):
        nested = struct.pack(">I4s", len(nested) + 12, b"meta") + b"\0\0\0\0" + nested
    many = struct.pack(">I4s", 8, b"free") * (3 * MAX_BOXES)
    claims = struct.pack(">I4sII", 16, b"ipma", 0, 0xFFFFFFFF)
    for data in (nested, many, claims, b"\0\0\0\x01meta" + b"\xff" * 8, b"\0\0\0\0meta", b"\0\0\0\x04free" * 9):
        facts = read_boxes(data)
        assert facts.nclx is None and not facts.has_icc


# Transparency and grey


@pytest.mark.parametrize("palette", [False, True])
def test_hidden_colours_do_not_bleed(palette: bool) -> None:
    rows, columns = np.mgrid[-32:32, -32:32]
    visible = rows**2 + columns**2 < 20**2
    if palette:
        image = Image.fromarray(visible.astype(np.uint8))
        image.putpalette([255, 0, 255, 30, 160, 90])
        data = encoded(image, "GIF", transparency=0)
    else:
        stored = np.where(visible[..., None], np.array([30, 160, 90, 255]), np.array([255, 0, 255, 0]))
        data = encoded(Image.fromarray(stored.astype(np.uint8)))
    picture = open_picture(data)
    assert picture.alpha is not None
    color, alpha = resize(picture.color, 256, 256), resize_alpha(picture.alpha, 256, 256)
    on_white = color * alpha + (1 - alpha)
    expected = torch.tensor([30, 160, 90]).div(127.5).sub(1)[:, None, None] * alpha[0] + (1 - alpha[0])
    assert (on_white[0] - expected).abs().max() * 127.5 < 1e-3


def test_nearest_visible_colour_and_nothing_visible() -> None:
    stored = np.zeros((1, 7, 4), np.uint8)
    stored[0, 1], stored[0, 5], stored[0, 3] = (10, 20, 30, 255), (200, 100, 50, 1), (99, 99, 99, 0)
    shown = pixels(open_picture(encoded(Image.fromarray(stored))))[0]
    assert shown[[0, 2]].tolist() == [[10, 20, 30]] * 2 and shown[[4, 6]].tolist() == [[200, 100, 50]] * 2
    stored[..., 3] = 0
    assert not pixels(open_picture(encoded(Image.fromarray(stored)))).any()
    one, other = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    clear = torch.zeros(1, 1, 4, 4)
    assert torch.equal(flattened(one, clear), flattened(other, clear)) and flattened(one, None) is one


@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGB", "I;16"])
def test_a_grey_picture_is_known_and_written_as_grey(mode: str, tmp_path) -> None:
    grey = photo().convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    picture = open_picture(encoded(image))
    assert picture.grey and not open_picture(encoded(photo())).grey
    for bits, overwrite in itertools.product((8, 16), (True,)):
        path = save_png(picture, tmp_path / "grey.png", bits=bits, overwrite=overwrite)
        with Image.open(path) as saved:
            assert saved.mode == ("LA" if mode == "LA" else "L" if bits == 8 else "I;16") or (mode, bits) == ("LA", 16)
        again = open_picture(path)
        assert again.grey and torch.allclose(again.color, picture.color, atol=1e-6 if bits == 16 else 1 / 127)


def test_sixteen_bits_survive_reading_resizing_and_writing(tmp_path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    stored = np.stack([np.tile(ramp, (8, 1)), np.tile(ramp[::-1], (8, 1)), np.full((8, 256), 257)], axis=-1)
    picture = open_picture(kinds.png_bytes(stored, 16, []))
    assert np.array_equal(to_array(picture.color, bits=16), stored)
    larger = resize(picture.color, 32, 1024)
    again = open_picture(save_png(larger, tmp_path / "deep.png", bits=16))
    levels = np.unique(to_array(again.color, bits=16)[0, :, 0])
    assert len(levels) > 900 and torch.allclose(again.color, larger, atol=2 / 65535)


# Names and notes


def test_names_of_cameras_and_browsers_are_found(tmp_path) -> None:
    names = ["a.jfif", "b.JPE", "c.HIF", "d.mpo", "e.avifs", "f.apng", "g.pjp", "h.dib", "i.heics"]
    for name in (*names, "j.txt", "k.nef"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_pictures([tmp_path])] == names


def test_a_bmp_of_4_bits_with_run_lengths_is_refused() -> None:
    """Pillow 12.3 reads an odd run of absolute mode one sample off, in silence."""
    rows = bytes([0, 3, 0x12, 0x30, 0, 0, 0, 1])
    header = b"BM" + struct.pack("<IHHI", 54 + 64 + len(rows), 0, 0, 54 + 64)
    info = struct.pack("<IiiHHIIiiII", 40, 3, 1, 1, 4, 2, len(rows), 2835, 2835, 16, 0)
    with pytest.raises(PictureError, match="run lengths") as caught:
        open_picture(header + info + bytes(range(64)) + rows)
    assert_sentence(str(caught.value))


def test_notes_and_refusals_say_what_is_so(monkeypatch) -> None:
    header = b"BM" + struct.pack("<IHHI", 66 + 2 * 4 * 4, 0, 0, 66)
    info = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 2835, 2835, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    picture = open_picture(header + info + masks + struct.pack("<H", 0xF800) * 16)
    assert picture.notes == () and pixels(picture)[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(PictureError, match="not a picture") as caught:
        open_picture(b"text")
    pytest.importorskip("pillow_heif")
    assert "pillow-heif" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(PictureError, match="with the package pillow-heif"):
        open_picture(b"text")


def test_a_limited_range_is_expanded() -> None:
    color = np.array([16, 235], np.float32).reshape(1, 1, 2) / 255
    assert to_srgb(color, ColorSpace(full_range=False))[0].ravel().tolist() == [0, 1]

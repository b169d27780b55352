"""What the gate for pictures refuses and how, and how each kind of picture is read."""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, PngImagePlugin

from gendrpix.errors import PictureError
from gendrpix.image.picture import Limits
from gendrpix.image.png import write_png16
from gendrpix.image.read import open_picture, read_size
from gendrpix.image.write import to_pil
from tests.helpers.pictures import COLOR, assert_sentence, encoded, photo, pixels

LOSSLESS = ("PNG", "TIFF", "BMP", "GIF")
LOSSY = ("JPEG", "WEBP", "AVIF")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# What is refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"just a text, renamed to .png", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (png_header(20_000, 10_000), "200,000,000"),
        (png_header(0, 5), "damaged"),
        (png_header(100_000, 1), "100,000 times"),
        (b"P6 2 2 255\n" + bytes(12), "not a picture"),  # Pillow reads PPM, the gate does not
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(64), "damaged"),
    ],
)
def test_broken_input_gives_a_sentence(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (data, path, str(path), io.BytesIO(data)):
        with pytest.raises(PictureError, match=words) as caught:
            open_picture(source)
        assert_sentence(str(caught.value))


@pytest.mark.parametrize("format_name", LOSSLESS + LOSSY)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(format_name: str, kept: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format_name)
    with pytest.raises(PictureError) as caught:
        open_picture(data[: int(len(data) * kept)])
    assert_sentence(str(caught.value))


@pytest.mark.parametrize("format_name", LOSSLESS + LOSSY)
def test_damaged_bytes_raise_nothing_but_picture_errors(format_name: str) -> None:
    rng = np.random.default_rng(1)
    whole = np.frombuffer(encoded(photo(), format_name), np.uint8)
    limits = Limits(max_pixels=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            try:
                picture = open_picture(damaged.tobytes(), limits)
            except PictureError as error:
                assert_sentence(str(error))
            else:
                assert picture.color.isfinite().all() and picture.color.abs().max() <= 1


def test_limits_are_kept() -> None:
    data = encoded(photo(37, 23))
    assert open_picture(data, Limits(max_pixels=37 * 23)).width == 37
    with pytest.raises(PictureError, match="37 x 23 = 851 pixels and the limit is 850"):
        open_picture(data, Limits(max_pixels=850))
    with pytest.raises(PictureError, match="limit of 100 bytes"):
        open_picture(data, Limits(max_bytes=100))
    with pytest.raises(PictureError, match="limit of 100 bytes"):
        open_picture(io.BytesIO(data), Limits(max_bytes=100))
    with pytest.raises(PictureError, match="the limit is 850"):
        open_picture(photo(37, 23), Limits(max_pixels=850))
    with pytest.raises(ValueError, match="max_pixels"):
        Limits(max_pixels=0)
    with pytest.raises(ValueError, match="max_seconds"):
        Limits(max_seconds=0)


def test_the_size_is_checked_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    with pytest.raises(PictureError, match="200,000,000"):
        open_picture(png_header(20_000, 10_000))


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": b"Exif\0\0"}])
def test_a_webp_canvas_is_checked_from_its_header(options: dict[str, object]) -> None:
    data = encoded(photo(300, 20), "WEBP", **options)
    assert open_picture(data).width == 300
    with pytest.raises(PictureError, match="300 x 20"):
        open_picture(data, Limits(max_pixels=5999))


@pytest.mark.parametrize("format_name", LOSSLESS + LOSSY)
def test_decoding_ends_when_its_time_is_over(format_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))  # every look at it, a second has gone
    monkeypatch.setattr("gendrpix.image.formats.time.monotonic", lambda: next(clock))
    data = encoded(photo(), format_name)
    with pytest.raises(PictureError, match=r"The file took longer to decode than the limit of 1\.5 seconds") as caught:
        open_picture(data, Limits(max_seconds=1.5))
    assert_sentence(str(caught.value))
    assert open_picture(data).width == 37


def test_a_long_file_is_left_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8))
    for format_name in ("PNG", "JPEG", "BMP", "GIF"):
        data, looks = encoded(noise, format_name), []
        monkeypatch.setattr("gendrpix.image.formats.Clock.check", lambda self, looks=looks: looks.append(0))
        open_picture(data)
        assert len(looks) > len(data) / 100_000, format_name


def test_a_header_tells_the_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("a.jpg", {"exif": exif}), ("b.png", {}), ("c.webp", {})):
        photo(37, 23).save(tmp_path / name, **options)
        assert read_size(tmp_path / name) == open_picture(tmp_path / name).color.shape[-2:]
    with pytest.raises(PictureError, match="the limit is 850"):
        read_size(tmp_path / "b.png", Limits(max_pixels=850))


def test_pillows_own_limit_neither_warns_nor_refuses_nor_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(encoded(photo(37, 23))).width == 37
    assert Image.MAX_IMAGE_PIXELS == 500


def test_paths_that_are_no_picture_files(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="is a folder"):
        open_picture(tmp_path)
    with pytest.raises(PictureError, match="not there"):
        open_picture(tmp_path / "nothing.png")
    with pytest.raises(PictureError, match="ordinary file"):
        open_picture("/dev/zero")
    with pytest.raises(PictureError):
        open_picture("nul\0byte.png")
    with pytest.raises(PictureError, match="binary"):
        open_picture(io.StringIO("text"))  # type: ignore[arg-type]
    bad_name = tmp_path / "two\nlines.png"
    bad_name.write_bytes(b"x")
    with pytest.raises(PictureError) as caught:
        open_picture(bad_name)
    assert_sentence(str(caught.value))


# How each kind is read


@pytest.mark.parametrize("format_name", LOSSLESS)
def test_lossless_formats_are_read_exactly(format_name: str) -> None:
    image = photo().quantize(200) if format_name == "GIF" else photo()
    picture = open_picture(encoded(image, format_name))
    assert picture.color.shape == (1, 3, 23, 37) and picture.color.dtype == torch.float32
    assert (picture.width, picture.height) == (37, 23)
    assert picture.alpha is None and picture.notes == ()
    assert np.array_equal(pixels(picture), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format_name", LOSSY)
def test_lossy_formats_are_read_closely(format_name: str) -> None:
    picture = open_picture(encoded(photo(), format_name, quality=95))
    assert np.abs(pixels(picture).astype(int) - np.asarray(photo()).astype(int)).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000), (1, 97)])
def test_unusual_sizes_are_read(size: tuple[int, int]) -> None:
    picture = open_picture(encoded(Image.new("RGB", size, COLOR)))
    assert (picture.width, picture.height) == size


def test_every_8_bit_value_maps_onto_minus_one_to_one_and_back() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    picture = open_picture(encoded(Image.fromarray(ramp)))
    assert torch.equal(picture.color[0, 0], picture.color[0, 2])
    assert torch.allclose(picture.color[0, 0, 0], torch.linspace(-1, 1, 256), atol=1e-6)
    assert np.array_equal(np.asarray(to_pil(picture.color))[..., 1], ramp)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_opaque_modes_agree_with_their_rgb(mode: str) -> None:
    image = photo().convert(mode) if mode != "LAB" else lab_of(photo())
    expected = np.asarray(photo() if mode == "LAB" else image.convert("RGB"))
    picture = open_picture(image)
    assert picture.alpha is None
    difference = np.abs(pixels(picture).astype(int) - expected.astype(int))
    assert difference.mean() < 3 if mode == "LAB" else difference.max() == 0  # 8 bits of LAB are coarse


def lab_of(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")


def test_cmyk_and_lab_files() -> None:
    solid = Image.new("RGB", (16, 16), COLOR)
    for data in (
        encoded(solid.convert("CMYK"), "JPEG", quality=100),
        encoded(solid.convert("CMYK"), "TIFF"),
        encoded(lab_of(solid), "TIFF"),
    ):
        assert np.abs(pixels(open_picture(data))[8, 8].astype(int) - COLOR).max() <= 3


def test_alpha_is_kept_apart_and_colour_is_not_premultiplied() -> None:
    image = photo().convert("RGBA")
    alpha = Image.linear_gradient("L").resize(image.size)
    image.putalpha(alpha)
    for data in (encoded(image), encoded(image, "TIFF"), encoded(image, "WEBP", lossless=True, exact=True)):
        picture = open_picture(data)
        assert picture.alpha is not None and picture.alpha.shape == (1, 1, 23, 37)
        assert np.array_equal(np.rint(picture.alpha[0, 0].numpy() * 255), np.asarray(alpha))
        assert np.array_equal(pixels(picture), np.asarray(photo()))


def test_grey_alpha_palette_transparency_and_colour_keys() -> None:
    grey_alpha = Image.merge("LA", (Image.new("L", (4, 4), 90), Image.new("L", (4, 4), 51)))
    picture = open_picture(encoded(grey_alpha))
    assert (pixels(picture) == 90).all() and picture.alpha is not None
    assert torch.allclose(picture.alpha, torch.full((1, 1, 4, 4), 0.2))
    premultiplied = Image.new("RGBA", (2, 2), (*COLOR, 255)).convert("RGBa")
    assert tuple(pixels(open_picture(premultiplied))[0, 0]) == COLOR

    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([*COLOR, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    picture = open_picture(encoded(palette, transparency=bytes([255, 0])))
    assert picture.alpha is not None and tuple(pixels(picture)[0, 0]) == COLOR
    assert picture.alpha[0, 0, 0, 1] == 0 and picture.alpha.sum() == 15

    for image, key in ((Image.new("L", (4, 4), 7), 9), (Image.new("RGB", (4, 4), COLOR), (1, 2, 3))):
        image.putpixel((2, 0), key)
        picture = open_picture(encoded(image, transparency=key))
        assert picture.alpha is not None
        assert picture.alpha[0, 0, 0, 2] == 0 and picture.alpha.sum() == 15


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_precision(format_name: str) -> None:
    values = np.array([[0, 1, 257, 30_000, 65_535]], np.uint16)
    picture = open_picture(encoded(Image.fromarray(values), format_name))
    expected = torch.from_numpy(values.astype(np.float64) / 65535 * 2 - 1).float()
    assert torch.allclose(picture.color[0, 1], expected, atol=1e-7)
    wide = open_picture(Image.fromarray(values.astype(np.int32)))  # mode I
    assert torch.equal(wide.color, picture.color)
    with pytest.raises(PictureError, match="0 to 70000"):
        open_picture(Image.fromarray(np.array([[0, 70_000]], np.int32)))


def test_sixteen_bit_colour_keeps_its_precision() -> None:
    values = np.zeros((2, 3, 3), np.uint16) + np.array([0x1234, 0x8000, 0xFFFF], np.uint16)
    buffer = io.BytesIO()
    write_png16(buffer, values, {})
    picture = open_picture(buffer.getvalue())
    assert picture.notes == () and not picture.grey
    expected = torch.tensor([0x1234, 0x8000, 0xFFFF]) / 65535 * 2 - 1
    assert torch.allclose(picture.color[0, :, 0, 0], expected, atol=1e-6)


def test_float_samples(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    for values, top in (([0.0, 0.25, 1.0], 1), ([0.0, 51.0, 255.0], 255)):
        tifffile.imwrite(path, np.array([values], np.float32))
        picture = open_picture(path)
        assert torch.allclose(picture.color[0, 0, 0], torch.tensor(values) / top * 2 - 1)
        assert picture.notes == (f"float samples taken as 0 to {top}",)
    for values, top in (([0.0, 0.25, 1.02], 1), ([-1e-6, 0.25, 1.0], 1), ([-3.0, 51.0, 255.0], 255)):
        tifffile.imwrite(path, np.array([values], np.float32))
        picture = open_picture(path)
        assert torch.allclose(picture.color[0, 0, 0], torch.tensor(values).div(top).clamp(0, 1) * 2 - 1)
        assert len(picture.notes) == 2 and "1 float samples outside" in picture.notes[1]
    for bad in (np.nan, np.inf, -0.5, 1e6, 3.7):
        tifffile.imwrite(path, np.array([[0.5, bad]], np.float32))
        with pytest.raises(PictureError) as caught:
            open_picture(path)
        assert_sentence(str(caught.value))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_name: str, orientation: int) -> None:
    """Where the stored top left corner stands when the picture is upright (EXIF 2.3, tag 0x0112)."""
    stored = np.full((16, 32, 3), 128, np.uint8)
    stored[:8, :8] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(stored), format_name, exif=exif)
    shown = pixels(open_picture(data)).astype(int)
    assert shown.shape[:2] == ((16, 32) if orientation <= 4 else (32, 16))
    vertical, horizontal = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    corner = shown[3 if vertical == "t" else -4, 3 if horizontal == "l" else -4]
    assert np.abs(corner - (255, 0, 0)).max() < 40


def test_broken_exif_costs_only_the_orientation() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20))
    assert open_picture(data).width == 37


def test_icc_profiles() -> None:
    """An sRGB profile changes nothing, another space is converted, a broken or foreign profile is noted."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = open_picture(encoded(photo(), icc_profile=srgb))
    assert np.array_equal(pixels(picture), np.asarray(photo())) and picture.notes == ()

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for unusable in (b"not a profile", lab, srgb[:200]):
        picture = open_picture(encoded(photo(), icc_profile=unusable))
        assert np.array_equal(pixels(picture), np.asarray(photo()))
        assert picture.notes == ("colour profile unusable: taken as sRGB",)

    swapped = swap_red_and_green(srgb)
    picture = open_picture(encoded(Image.new("RGB", (4, 4), (250, 20, 20)), icc_profile=swapped))
    red, green, _ = pixels(picture)[0, 0]
    assert green > 200 and red < 60
    sixteen = Image.fromarray(np.full((2, 2), 40_000, np.uint16))
    picture = open_picture(encoded(sixteen, icc_profile=srgb))
    assert picture.notes == () and picture.color[0, 0, 0, 0] == pytest.approx(40_000 / 65535 * 2 - 1, abs=1e-6)


def swap_red_and_green(profile: bytes) -> bytes:
    """The profile with the tags of its red and green primaries exchanged: a colour space far from sRGB."""
    return profile.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_is_taken_and_said_so(format_name: str) -> None:
    frames = [Image.new("RGB", (16, 16), (level, level, level)) for level in (10, 120, 240)]
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:])
    picture = open_picture(data)
    assert picture.notes == ("first of 3 frames",)
    assert np.abs(pixels(picture).astype(int) - 10).max() <= 3


def test_threads_read_the_same() -> None:
    data = [encoded(photo(40 + n, 30), "JPEG") for n in range(8)]
    alone = [open_picture(one).color for one in data]
    together: dict[int, torch.Tensor] = {}
    threads = [threading.Thread(target=lambda n=n: together.update({n: open_picture(data[n]).color})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[n], alone[n]) for n in range(8))


def test_heic_is_read_where_its_package_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo(64, 48)).save(buffer, quality=95)
    assert open_picture(buffer.getvalue()).width == 64
    with pytest.raises(PictureError, match="64 x 48"):
        open_picture(buffer.getvalue(), Limits(max_pixels=100))

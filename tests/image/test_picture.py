"""Finding pictures, sizes, padding, resizing, and what goes out."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gendrpix.errors import PictureError
from gendrpix.image.picture import Limits, Picture
from gendrpix.image.png import write_png16
from gendrpix.image.read import find_pictures, open_picture
from gendrpix.image.resize import check_output_size, output_size, pad_to_multiple, reflect_pad, resize, resize_alpha
from gendrpix.image.write import save_png, to_array, to_pil
from tests.helpers.pictures import assert_sentence, photo


def test_find_pictures(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = find_pictures([tmp_path / "notes.txt", tmp_path, tmp_path / "a.jpg"])
    assert [path.name for path in found] == ["notes.txt", "a.jpg", "b.PNG"]
    with pytest.raises(PictureError, match="no pictures"):
        find_pictures([tmp_path / "folder.png"])
    with pytest.raises(PictureError, match="not there"):
        find_pictures([tmp_path / "gone"])


# Sizes and pads


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 8))
def test_output_size(height: int, width: int, scale: float) -> None:
    assert output_size(height, width, scale) == tuple(
        max(1, int(np.floor(side * scale + 0.5))) for side in (height, width)
    )


def test_output_size_refusals() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            output_size(4, 4, scale)
    check_output_size(20, 10, Limits(max_output_pixels=200))
    with pytest.raises(PictureError, match="10 x 20 = 200 pixels") as caught:
        check_output_size(20, 10, Limits(max_output_pixels=199))
    assert_sentence(str(caught.value))


pad_sizes = st.tuples(*[st.integers(0, 20)] * 4)


@given(st.integers(1, 12), st.integers(1, 12), pad_sizes)
def test_reflect_pad_is_numpys(height: int, width: int, pads: tuple[int, int, int, int]) -> None:
    left, right, top, bottom = pads
    x = torch.arange(2 * 3 * height * width).reshape(2, 3, height, width).float()
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode="reflect")
    padded = reflect_pad(x, left, right, top, bottom)
    assert np.array_equal(padded.numpy(), expected)
    assert torch.equal(padded[..., top : top + height, left : left + width], x)


def test_reflect_pad_refusals_and_gradient() -> None:
    with pytest.raises(ValueError, match="negative"):
        reflect_pad(torch.zeros(1, 3, 4, 4), -1, 0, 0, 0)
    with pytest.raises(ValueError, match="one pixel"):
        reflect_pad(torch.zeros(1, 3, 0, 4), 1, 1, 1, 1)
    x = torch.zeros(1, 1, 1, 3, requires_grad=True)
    reflect_pad(x, 2, 0, 0, 0).sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [1, 2, 2]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 8, 16]))
def test_pad_to_multiple(height: int, width: int, multiple: int) -> None:
    x = torch.rand(1, 3, height, width)
    padded = pad_to_multiple(x, multiple)
    assert all(
        side % multiple == 0 and side - old < multiple
        for side, old in zip(padded.shape[-2:], x.shape[-2:], strict=True)
    )
    assert torch.equal(padded[..., :height, :width], x)


def test_resize() -> None:
    x = torch.rand(2, 3, 12, 20) * 2 - 1
    assert torch.equal(resize(x, 12, 20), x)
    assert resize(x, 48, 7).shape == (2, 3, 48, 7)
    edge = torch.cat([-torch.ones(1, 3, 8, 8), torch.ones(1, 3, 8, 8)], dim=-1)  # bicubic overshoots here
    assert resize(edge, 32, 64).abs().max() == 1
    assert torch.allclose(resize(torch.full((1, 3, 9, 9), 0.3), 31, 4), torch.tensor(0.3))
    assert resize(x.bfloat16(), 24, 40).dtype == torch.bfloat16
    assert resize(torch.full((1, 3, 2, 2), 1.5), 2, 2).max() == 1
    down = resize(x, 6, 10)  # antialiased as Pillow's bicubic, which uses the same kernel (a = -0.5)
    reference = Image.fromarray(x[0, 0].numpy()).resize((10, 6), Image.Resampling.BICUBIC)
    assert np.abs(down[0, 0].numpy() - np.clip(np.asarray(reference), -1, 1)).max() < 1e-5
    thin = resize(x[..., :1], 18, 1)  # one pixel wide
    reference = Image.fromarray(x[0, 0, :, :1].numpy()).resize((1, 18), Image.Resampling.BICUBIC)
    assert np.abs(thin[0, 0].numpy() - np.clip(np.asarray(reference), -1, 1)).max() < 1e-5
    alpha = resize_alpha(torch.rand(1, 1, 5, 5), 20, 20)
    assert alpha.min() >= 0 and alpha.max() <= 1


# What goes out


def test_to_array_rounds_clamps_and_refuses() -> None:
    color = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(1, 3, 1, 5)
    assert to_array(color)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_array(color, bits=16)[0, :, 0].tolist() == [0, 0, 32768, 65535, 65535]
    assert to_array(color[0], torch.ones(1, 1, 1, 5)).shape == (1, 5, 4)
    assert to_pil(color.to(torch.bfloat16), torch.zeros(1, 1, 1, 5)).mode == "RGBA"
    with pytest.raises(PictureError, match="NaN"):
        to_pil(torch.full((1, 3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="bits"):
        to_array(color, bits=10)
    with pytest.raises(ValueError, match="one picture"):
        to_array(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="alpha"):
        to_array(color, torch.ones(1, 1, 2, 5))


METADATA = {"gendrpix": '{"scale": 4}', "Comment": "größer × 4", "Titel": "日本語\nzwei Zeilen"}


def test_png_round_trip_with_metadata_and_without_exif(tmp_path: Path) -> None:
    source = photo()
    source.info["icc_profile"] = b"old"
    path = save_png(source, tmp_path / "out.png", metadata=METADATA)
    with Image.open(path) as saved:
        saved.load()
        assert saved.text == METADATA
        assert "icc_profile" not in saved.info and not saved.getexif() and "srgb" in saved.info
        assert np.array_equal(np.asarray(saved), np.asarray(source))
    transparent = Picture(color=torch.zeros(1, 3, 4, 4), alpha=torch.full((1, 1, 4, 4), 0.2))
    with Image.open(save_png(transparent, tmp_path / "alpha.png")) as saved:
        assert saved.getpixel((0, 0)) == (128, 128, 128, 51)
    grey_alpha = Image.merge("LA", (Image.new("L", (4, 4), 90), Image.new("L", (4, 4), 51)))
    with Image.open(save_png(grey_alpha, tmp_path / "alpha.png", overwrite=True)) as saved:
        assert saved.mode == "LA" and saved.getpixel((0, 0)) == (90, 51)
    with pytest.raises(ValueError, match="keyword"):
        save_png(source, tmp_path / "bad.png", metadata={"": "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha.png", "out.png"]


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 2**32 - 1))
def test_sixteen_bit_png_holds_its_samples(height: int, width: int, with_alpha: bool, seed: int) -> None:
    """Read back by undoing the filters as the PNG specification words them, apart from any library."""
    channels = 4 if with_alpha else 3
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    buffer = io.BytesIO()
    write_png16(buffer, values, METADATA)
    assert np.array_equal(decode_png16(buffer.getvalue(), channels), values)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        image.load()
        assert image.text == METADATA and image.size == (width, height)
        assert np.array_equal(np.asarray(image), values >> 8)


def test_sixteen_bit_png_in_several_bands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gendrpix.image.png.BAND_BYTES", 100)
    color = torch.rand(1, 3, 17, 5) * 2 - 1
    path = save_png(color, tmp_path / "deep.png", bits=16)
    assert np.array_equal(decode_png16(path.read_bytes(), 3), to_array(color, bits=16))
    with pytest.raises(ValueError, match="16"):
        save_png(photo(), tmp_path / "no.png", bits=16)
    with pytest.raises(ValueError, match="uint16"):
        write_png16(io.BytesIO(), np.zeros((2, 2, 3), np.uint8), {})  # type: ignore[arg-type]


def decode_png16(data: bytes, channels: int) -> np.ndarray:
    position, compressed, width, height = 8, b"", 0, 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, position + 8 + length)[0]
        if kind == b"IHDR":
            width, height, depth = struct.unpack_from(">IIB", body)
            assert depth == 16
        compressed += body if kind == b"IDAT" else b""
        position += 12 + length
    raw, stride, step = zlib.decompress(compressed), width * channels * 2, channels * 2
    rows, above = [], bytes(stride)
    for top in range(0, len(raw), stride + 1):
        line = bytearray(raw[top + 1 : top + 1 + stride])
        for i in range(stride):
            before = line[i - step] if i >= step else 0
            line[i] = (line[i] + {0: 0, 1: before, 2: above[i]}[raw[top]]) % 256
        above = bytes(line)
        rows.append(above)
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, channels)


def test_an_existing_file_is_kept_unless_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"mine")
    with pytest.raises(PictureError, match="overwrit") as caught:
        save_png(photo(), path)
    assert_sentence(str(caught.value))
    assert path.read_bytes() == b"mine"
    save_png(photo(), path, overwrite=True)
    assert open_picture(path).width == 37
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_while_writing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    monkeypatch.setattr(
        "gendrpix.image.write.write_png", lambda file, *_: (file.write(b"new"), path.write_bytes(b"theirs"))
    )
    with pytest.raises(PictureError, match="exists already"):
        save_png(photo(), path)
    assert path.read_bytes() == b"theirs" and list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = save_png(photo(), tmp_path / "out.png")
    assert open_picture(path).width == 37 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_half_written(
    failing: str, existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.png"
    if existing:
        path.write_bytes(b"old")
    monkeypatch.setattr(os, failing, full)
    with pytest.raises(PictureError, match="No space left") as caught:
        save_png(photo(), path, overwrite=True)
    assert_sentence(str(caught.value))
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([b"old"] if existing else [])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="check the folder"):
        save_png(photo(), tmp_path / "missing" / "out.png")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PictureError, match="check the folder"):
        save_png(photo(), tmp_path / "file" / "out.png")


def test_interrupting_a_write_removes_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gendrpix.image.write.write_png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_png(photo(), tmp_path / "out.png")
    assert not list(tmp_path.iterdir())

"""Zip files: pictures come out under names of our own, whatever the zip says; harmful ones are refused."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from gendrpix.jobs import archives
from gendrpix.jobs.archives import ArchiveError, Named, ZipLimits, is_picture, pack, plain_name, unpack, without_twins
from tests.helpers.pictures import encoded, photo

PICTURE = encoded(photo(9, 7))


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_pictures_come_out_in_order_and_others_are_counted(tmp_path) -> None:
    files = {
        "b/two.PNG": PICTURE,
        "one.png": PICTURE + b"1",
        "notes.txt": b"",
        "__MACOSX/._one.png": b"",
        ".x.png": b"",
    }
    found = unpack(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert [one.name for one in found.pictures] == ["b/two.PNG", "one.png"]
    assert [one.path.name for one in found.pictures] == ["0001.png", "0002.png"]
    assert found.pictures[1].path.read_bytes() == PICTURE + b"1"
    assert found.num_others == 3 and found.refused == ()


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\..\\evil.png", "a/../../evil.png", "\\\\host\\evil.png"],
)
def test_no_name_leaves_the_folder(tmp_path, name: str) -> None:
    found = unpack(zipped(tmp_path / "a.zip", {name: PICTURE}), tmp_path / "in" / "out")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"a.zip", "in/out/0001.png"}
    shown = found.pictures[0].name
    assert shown.endswith("evil.png") and ".." not in shown and ":" not in shown and not shown.startswith("/")


def test_a_link_in_a_zip_is_a_file(tmp_path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    found = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not found.pictures[0].path.is_symlink() and found.pictures[0].path.read_text() == "/etc/passwd"


def test_limits_are_counted_while_unpacking(tmp_path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{i}.png": bytes(3000) for i in range(4)}, zipfile.ZIP_STORED)
    with pytest.raises(ArchiveError, match="holds 4 pictures and 3 are accepted"):
        unpack(path, tmp_path / "out", ZipLimits(max_files=3))
    with pytest.raises(ArchiveError, match="unpacks to more than 0 MB"):
        unpack(path, tmp_path / "out", ZipLimits(max_total_bytes=8000))
    found = unpack(path, tmp_path / "other", ZipLimits(max_file_bytes=2999))
    assert found.pictures == () and len(found.refused) == 4 and "make it smaller" in found.refused[0][1]
    assert list((tmp_path / "other").iterdir()) == []


def test_a_bomb_is_stopped_early(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FLOOR_BYTES", 100_000)
    path = zipped(tmp_path / "a.zip", {"bomb.png": bytes(50_000_000), "cat.png": PICTURE})
    assert path.stat().st_size < 60_000
    found = unpack(path, tmp_path / "out")
    assert [one.name for one in found.pictures] == ["cat.png"]
    assert found.refused[0][0] == "bomb.png" and "more than 200 times its size" in found.refused[0][1]


def test_a_size_that_lies_does_not_count(tmp_path, monkeypatch) -> None:
    """The directory says 10 bytes; the data unpack to more, or are refused as damaged, and never pass the limit."""
    data = bytearray(zipped(tmp_path / "a.zip", {"bomb.png": bytes(5_000_000)}).read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    (tmp_path / "b.zip").write_bytes(bytes(data))
    found = unpack(tmp_path / "b.zip", tmp_path / "out", ZipLimits(max_file_bytes=1000))
    assert found.pictures == () and len(found.refused) == 1


def test_a_list_without_end_is_not_read(tmp_path, monkeypatch) -> None:
    path = zipped(tmp_path / "a.zip", {f"{i}.png": b"" for i in range(200)})
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 4000)
    with pytest.raises(ArchiveError, match="lists far too many files"):
        unpack(path, tmp_path / "out")


def test_damaged_encrypted_and_uncommon_entries_are_refused_alone(tmp_path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", PICTURE)
        archive.writestr("bzip.png", PICTURE, zipfile.ZIP_BZIP2)
        archive.writestr("locked.png", PICTURE)
        archive.writestr("torn.png", PICTURE * 3)
    data = bytearray(path.read_bytes())
    data[data.index(b"torn.png") + 60] ^= 0xFF
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = [i for i in range(len(data)) if data[i : i + 4] == mark][2]
        data[start + place] |= 1
    path.write_bytes(bytes(data))
    found = unpack(path, tmp_path / "out")
    assert [one.name for one in found.pictures] == ["good.png"]
    reasons = dict(found.refused)
    assert (
        "password" in reasons["locked.png"] and "uncommon" in reasons["bzip.png"] and "damaged" in reasons["torn.png"]
    )


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x00" * 5000, PICTURE])
def test_what_is_no_zip_of_pictures_is_refused_in_a_sentence(tmp_path, data: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        unpack(path, tmp_path / "out")
    assert str(caught.value).endswith(".") and ";" in str(caught.value)


def test_every_cut_and_flip_is_refused_or_unpacked(tmp_path) -> None:
    whole = zipped(tmp_path / "a.zip", {"a.png": PICTURE, "b/c.png": PICTURE}).read_bytes()
    path = tmp_path / "b.zip"
    for number in range(0, len(whole), 3):
        for data in (whole[:number], whole[:number] + bytes([whole[number] ^ 0x55]) + whole[number + 1 :]):
            path.write_bytes(data)
            try:
                unpack(path, tmp_path / "out")
            except ArchiveError:
                continue


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("trip/cat.png", "trip/cat.png"),
        ("../../cat.png", "cat.png"),
        ("C:\\trip\\cat.png", "C_/trip/cat.png"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("\x00\n", "photo"),
        ("...", "photo"),
        ("a/b/c/d/e/f/g/h.png", "c/d/e/f/g/h.png"),
        ("ü ñ 猫.jpg", "ü ñ 猫.jpg"),
    ],
)
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_long_names_keep_their_suffix() -> None:
    assert plain_name("x" * 300 + ".jpeg") == "x" * 95 + ".jpeg"
    assert is_picture("a/b.JPG") and not is_picture("a/.b.jpg") and not is_picture("") and not is_picture("a.zip")


def test_twins_are_numbered_and_packed(tmp_path) -> None:
    path = tmp_path / "0001.png"
    path.write_bytes(PICTURE)
    names = ["cat.png", "cat.jpg", "CAT.webp", "dog/cat.png"]
    found = without_twins([Named(path=path, name=name) for name in names])
    assert [one.name for one in found] == ["cat.png", "cat (2).jpg", "CAT (3).webp", "dog/cat.png"]
    with zipfile.ZipFile(pack(found, tmp_path / "out.zip")) as archive:
        assert archive.namelist() == [one.name for one in found] and archive.testzip() is None
        assert io.BytesIO(archive.read("dog/cat.png")).getvalue() == PICTURE

"""Files that hostile guests send to the running server: bombs, archives, weights; each refused. See SECURITY.md."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gendrpix.settings.recipe import KEYWORD
from gendrpix.ui.engine.engine import Engine
from tests.helpers.guests import Guest
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import encoded, photo
from tests.helpers.server import AppProcess

# Bombs -------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def said(done: dict[str, Any]) -> str:
    """The sentence of a job that was refused."""
    assert not done["success"], done
    return str(done["output"]["error"])


def idle_mb(app: AppProcess) -> float:
    """Its resident set once all is loaded, in MB; from here on its peak counts."""
    app.wait_until_loaded()
    app.forget_peak()
    return app.resident_mb()


def test_picture_bombs(app: AppProcess, guest: Guest) -> None:
    start_mb = idle_mb(app)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes(30_000_000))
    bombs = {
        "the limit is 1,000,000": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""),
        "is not a picture": b"\x1f\x8b" + bytes(1000),
    }
    for sentence, data in bombs.items():
        assert sentence in said(guest.press("photo", "change", photo=guest.uploaded(data)))
    large = encoded(Image.new("RGB", (900, 900)))
    told = guest.press("photo", "change", photo=guest.uploaded(large), scale=16)
    assert "scale is 16; expected a number from 1 to 8" in str(told["output"])
    assert app.peak_mb() < start_mb + 200  # decoded it has 2,700


def test_text_bombs_in_a_png(app: AppProcess, guest: Guest) -> None:
    start_mb = idle_mb(app)
    plain = encoded(photo(20, 20))
    head, tail = plain[:33], plain[33:]
    packed = zlib.compress(b"{" * 300_000_000)
    for entry in (
        chunk(b"zTXt", KEYWORD.encode() + b"\0\0" + packed),
        chunk(b"iTXt", KEYWORD.encode() + b"\0\1\0\0\0" + packed),
    ):
        done = guest.press("load-settings", "upload", load_settings=guest.uploaded(head + entry + tail))
        assert said(done).endswith(".")
    assert app.peak_mb() < start_mb + 200


def test_preset_bombs(guest: Guest) -> None:
    deep = b'{"format":' + b"[" * 500_000
    for data in (deep, b"9" * 900_000, b"\0" * 1000, b'{"__class__": "os.system"}', b'{"omega": 1e999}'):
        assert said(guest.press("load-preset", "upload", load_preset=guest.uploaded(data, "x.json"))).endswith(".")


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_zip_slip(app: AppProcess, guest: Guest) -> None:
    """Names that lead out of the folder are no paths: the pictures are restored under names of our own."""
    names = [
        "../../../evil.png",
        "/tmp/evil-absolute.png",
        "..\\..\\evil.png",
        "a/../../../../evil.png",
        "C:\\evil.png",
    ]
    before = set(app.folder.glob("*"))
    data = zipped({name: encoded(photo(16, 16)) for name in names})
    done = guest.press("batch-run", batch_files=[guest.uploaded(data, "x.zip")])
    assert done["success"], done
    assert set(app.folder.glob("*")) == before and not Path("/tmp/evil-absolute.png").exists()
    assert not list(app.folder.rglob("*evil*")) or all(
        path.is_relative_to(app.temp) for path in app.folder.rglob("*evil*")
    )


def test_zip_bombs(app: AppProcess, guest: Guest) -> None:
    start_mb = idle_mb(app)
    bomb = zipped({f"{n}.png": bytes(100_000_000) for n in range(2)})
    layers = zipped({"inner.zip": bomb[:500_000]})
    many = zipped({f"{n}.png": b"x" for n in range(600)}, zipfile.ZIP_STORED)
    lying = bytearray(zipped({"a.png": bytes(50_000_000)}))
    lying[22:26] = struct.pack("<I", 10)  # the size in the local header
    for data in (bomb, layers, many, bytes(lying), b"PK\3\4" + bytes(100)):
        done = guest.press("batch-run", batch_files=[guest.uploaded(data, "x.zip")])
        assert not done["success"] or "0 of " in json.dumps(done), json.dumps(done)[:300]
    assert app.peak_mb() < start_mb + 200
    used = sum(path.stat().st_size for path in app.temp.rglob("*") if path.is_file())
    assert used < 60_000_000


# Weights -----------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["named safetensors", "bin only", "code in the config"])
def test_weights_run_no_code(tmp_path: Path, kind: str) -> None:
    family, mark = save_tiny_family(tmp_path / "family", ("gendr-pix",)), tmp_path / "ran"
    folder = family / "gendr-pix" / "unet"
    [weights] = folder.glob("*.safetensors")
    if kind == "named safetensors":
        torch.save(Payload(mark), weights)
    elif kind == "bin only":
        weights.unlink()
        torch.save(Payload(mark), folder / "diffusion_pytorch_model.bin")
    else:
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({**config, "_class_name": "Evil", "auto_map": {"x": "evil.Evil"}})
        )
        index = family / "gendr-pix" / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), "unet": ["evil", "Evil"]}))
    engine = Engine(str(family))
    with pytest.raises(ValueError) as caught:
        engine.pipeline("gendr-pix")
    assert "\n" not in str(caught.value)
    assert not mark.exists()

"""Throw damaged picture files at the gate: `python -m tests.fuzz.pictures --count 20000`.

Small real files of every accepted format are made, then damaged in ways that parsers dislike. Each must end as a
picture within the limits or as one sentence, in time, in a process that neither dies nor grows. Input N depends on
(seed, N) alone; what fails is kept and named.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import multiprocessing
import os
import random
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageCms

from gendrpix.errors import PictureError
from gendrpix.image.picture import Limits
from gendrpix.image.read import open_picture
from tests.helpers.pictures import assert_sentence, encoded, photo

LIMITS = Limits(max_pixels=4_000_000, max_seconds=5.0)
HANG_CPU_S, HANG_S = 20.0, 900.0
"""An input that takes this much of the processor's time, or of the clock's, is a hang."""
WARM_UP = 1000
"""Inputs before memory is compared: libraries load, caches fill."""
GROWTH_BYTES = 16_000_000
"""More than that between the first fifth of the measurements and the last is called growth."""
Reading = tuple[int, int]


# Files ---------------------------------------------------------------------------------------------------------------


def make_files() -> list[tuple[str, bytes]]:
    """(name, file) for each accepted format in its usual kinds; a format without its plug-in is left out."""
    made = [(f"{kind} {options}", encoded(image, kind, **options)) for kind, image, options in plain_kinds()]
    return [*made, ("PNG 16 bits", sixteen_bit_png()), *heic_files()]


def plain_kinds() -> Iterator[tuple[str, Image.Image, dict[str, object]]]:
    color = photo(33, 21)
    clear = color.convert("RGBA")
    clear.putalpha(photo(33, 21).convert("L"))
    palette, grey = color.quantize(16), color.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told: dict[str, object] = {"exif": exif.tobytes(), "icc_profile": profile}
    deep = Image.fromarray(np.arange(33 * 21, dtype=np.uint16).reshape(21, 33) * 90)
    floats = Image.fromarray(np.linspace(0, 1, 33 * 21, dtype=np.float32).reshape(21, 33))
    for image in (color, clear, palette, grey, deep, color.convert("1")):
        yield "PNG", image, {}
    yield "PNG", color, told
    yield "PNG", palette, {"transparency": 3}
    yield "PNG", color, frames(color)
    yield "JPEG", color, told
    yield "JPEG", color, {"progressive": True, "quality": 95}
    yield "JPEG", grey, {"restart_marker_rows": 1}
    yield "JPEG", color.convert("CMYK"), {}
    yield "MPO", color, frames(color)
    yield "WEBP", color, told
    yield "WEBP", clear, {"lossless": True}
    yield "WEBP", color, frames(color)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
        yield "TIFF", color, {"compression": compression}
    yield "TIFF", color.convert("1"), {"compression": "group4"}
    yield "TIFF", color.convert("CMYK"), told
    yield "TIFF", floats, {}
    yield "TIFF", deep, {"compression": "tiff_lzw"}
    yield "TIFF", clear, {"big_tiff": True}
    yield "TIFF", color, frames(color)
    for image in (color, palette, grey, color.convert("1")):
        yield "BMP", image, {}
    yield "GIF", palette, {}
    yield "GIF", palette, {"transparency": 2, "interlace": True}
    yield "GIF", color, frames(color)
    yield "AVIF", color, told
    yield "AVIF", clear, {"quality": 40}
    yield "AVIF", color, frames(color)


def frames(color: Image.Image) -> dict[str, object]:
    """Two more frames, fresh ones: saving marks them with its format."""
    return {"save_all": True, "append_images": [color.rotate(90), color.rotate(180)]}


def sixteen_bit_png() -> bytes:
    from gendrpix.image.png import write_png16

    file = io.BytesIO()
    write_png16(file, np.asarray(photo(33, 21)).astype(np.uint16) * 257, {"gendrpix": "{}"})
    return file.getvalue()


def heic_files() -> list[tuple[str, bytes]]:
    try:
        import pillow_heif
    except ImportError:
        return []
    file = io.BytesIO()
    pillow_heif.from_pillow(photo(33, 21)).save(file, quality=60)
    return [("HEIC", file.getvalue())]


# Damage --------------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flip(data: bytearray, rng: random.Random, _: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random, _: bytes) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def number(data: bytearray, rng: random.Random, _: bytes) -> None:
    """A field that may be a size, a count or an offset gets a number on an edge."""
    code = rng.choice(("B", "<H", ">H", "<I", ">I"))
    size = struct.calcsize(code)
    at = rng.randrange(max(1, min(len(data), rng.choice((64, 400, len(data)))) - size))
    data[at : at + size] = struct.pack(code, rng.choice(NUMBERS) & (256**size - 1))


def cut(data: bytearray, rng: random.Random, _: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def drop(data: bytearray, rng: random.Random, _: bytes) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 4, 16, 100))]


def repeat(data: bytearray, rng: random.Random, _: bytes) -> None:
    at = rng.randrange(len(data))
    piece = bytes(data[at : at + rng.choice((1, 4, 16, 200))])
    data[at:at] = piece * rng.choice((1, 2, 50))


def splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    """A piece of another file, or all of it from some place on."""
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    end = len(other) if rng.random() < 0.5 else start + rng.randrange(200)
    data[at : at + (end - start if rng.random() < 0.5 else 0)] = other[start:end]


DAMAGES: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    flip, overwrite, number, number, cut, drop, repeat, splice,
)  # fmt: skip


def damaged(files: list[tuple[str, bytes]], seed: int, at: int) -> tuple[str, bytes]:
    """Input `at`: (name of the file it was, bytes). A PNG's checksums are mended half of the time."""
    rng = random.Random(f"{seed} {at}")
    name, whole = files[at % len(files)]
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if data:
            rng.choice(DAMAGES)(data, rng, rng.choice(files)[1])
    made = bytes(data)
    return name, mend_checksums(made) if name.startswith("PNG") and rng.random() < 0.5 else made


def mend_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the right CRC, as far as they can be followed: damage then gets past the first check."""
    at, out = 8, bytearray(data[:8])
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out + data[at:])


# The process that reads -----------------------------------------------------------------------------------------------


def read_all(pipe: Connection, first: int, count: int, seed: int) -> None:
    """Read inputs first to count; say of each (number, kind, seconds of CPU, resident bytes, message)."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libtiff talks
    files, process = make_files(), psutil.Process()
    for at in range(first, count):
        _, data = damaged(files, seed, at)
        pipe.send((at, "began", 0.0, 0, ""))
        began = time.thread_time()
        kind, message = outcome(data)
        resident = held_bytes(process) if at % 100 == 0 else 0
        pipe.send((at, kind, time.thread_time() - began, resident, message))


def held_bytes(process: psutil.Process) -> int:
    """Resident bytes, less what glibc keeps in stock."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(process.memory_info().rss)


def outcome(data: bytes) -> tuple[str, str]:
    """("read" | "refused" | "wrong", message)."""
    try:
        picture = open_picture(data, LIMITS)
    except PictureError as error:
        try:
            assert_sentence(str(error))
        except AssertionError:
            return "wrong", f"no sentence: {error}"
        return "refused", str(error)
    except BaseException as error:  # nothing else may come out
        return "wrong", f"{type(error).__name__}: {error}"
    parts = [picture.color] if picture.alpha is None else [picture.color, picture.alpha]
    if not all(part.isfinite().all() and part.abs().max() <= 1 for part in parts):
        return "wrong", "samples out of range"
    if picture.width * picture.height > LIMITS.max_pixels:
        return "wrong", f"{picture.width} x {picture.height} pixels got through"
    return "read", ""


def hangs(pipe: Connection, process: psutil.Process) -> bool:
    """Wait for the next message or the process's end; True where it takes too long."""
    began, used = time.monotonic(), None
    while not pipe.poll(5):
        now = sum(process.cpu_times()[:2])
        used = now if used is None else used
        if now - used > HANG_CPU_S or time.monotonic() - began > HANG_S:
            return True
    return False


class Watch:
    """Runs the reading process, starts another where it dies or hangs, and keeps the inputs that did it."""

    def __init__(self, count: int, seed: int, keep: Path) -> None:
        self.count, self.seed, self.keep = count, seed, keep
        self.kinds: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.slowest = (0.0, -1)
        self.resident: list[Reading] = []
        self.files = make_files()

    def run(self) -> None:
        at = 0
        while at < self.count:
            at = self.read_from(at)

    def read_from(self, first: int) -> int:
        """The number of the input to go on with."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=read_all, args=(there, first, self.count, self.seed))
        child.start()
        there.close()
        at, under_way = first - 1, False
        try:
            while at + 1 < self.count or under_way:
                if hangs(here, psutil.Process(child.pid)):
                    self.fail(at, "hang", "no answer in time")
                    return at + 1
                at, kind, seconds, resident, message = here.recv()
                under_way = kind == "began"
                if not under_way:
                    self.book(at, kind, seconds, resident, message)
        except EOFError:
            child.join()
            self.fail(at, "crash", f"the process ended with {child.exitcode}")
            return at + 1
        finally:
            child.kill()
            child.join()
        return self.count

    def book(self, at: int, kind: str, seconds: float, resident: int, message: str) -> None:
        self.slowest = max(self.slowest, (seconds, at))
        if resident and at >= WARM_UP:
            self.resident.append((at, resident))
        if kind == "wrong":
            self.fail(at, kind, message)
            return
        self.kinds[kind] += 1
        self.formats[f"{self.files[at % len(self.files)][0].split()[0]} {kind}"] += 1

    def fail(self, at: int, kind: str, message: str) -> None:
        self.kinds[kind] += 1
        name, data = damaged(self.files, self.seed, at)
        self.keep.mkdir(parents=True, exist_ok=True)
        (self.keep / f"{at}.bin").write_bytes(data)
        print(f"input {at} ({name}): {kind}: {message}; kept as {self.keep / f'{at}.bin'}", flush=True)


def growth(resident: list[Reading]) -> tuple[int, float]:
    """(bytes between the means of the first and the last fifth, bytes an input by least squares)."""
    if len(resident) < 10:
        return 0, 0.0
    at, rss = np.array(resident, dtype=np.float64).T
    fifth = max(1, len(rss) // 5)
    return int(rss[-fifth:].mean() - rss[:fifth].mean()), float(np.polyfit(at, rss, 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "gendrpix-fuzz")
    options = parser.parse_args()
    watch = Watch(options.count, options.seed, options.keep)
    began = time.monotonic()
    watch.run()
    grown, slope = growth(watch.resident)
    names = sorted({name.split()[0] for name, _ in watch.files})
    print(f"{options.count} inputs from {len(watch.files)} files of {', '.join(names)}: {dict(watch.kinds)}")
    print(", ".join(f"{name} {count}" for name, count in sorted(watch.formats.items())))
    print(f"slowest: {watch.slowest[0]:.3f} s of CPU (input {watch.slowest[1]}); wall {time.monotonic() - began:.0f} s")
    if watch.resident:
        last = watch.resident[-1][1]
        print(f"resident memory {last / 1e6:.0f} MB at the end; {grown / 1e6:+.1f} MB, {slope:+.0f} bytes an input")
    bad = watch.kinds["wrong"] + watch.kinds["crash"] + watch.kinds["hang"]
    return 1 if bad or grown > GROWTH_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())

"""Files of one small picture in many kinds: format, bits, photometric, planes, alpha, colour signalling, orientation.

Each is made by code with what it must be read as; what the writers cannot write is put together from bytes here.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tifffile
from PIL import Image

from gendrpix.errors import PictureError
from gendrpix.image.read import open_picture

SIZE = (13, 17)
"""(height, width)."""
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One file and the picture that it holds."""

    name: str
    suffix: str
    data: bytes
    expected: np.ndarray
    """(H, W, 3) float64 in [0, 1], upright, sRGB."""
    alpha: np.ndarray | None = None
    """(H, W) in [0, 1]."""
    tolerance: float = 1 / 255
    plain: bool = False
    """Whether any reader without colour management must agree."""


def base_picture() -> np.ndarray:
    """(H, W, 3) in [0, 1]: smooth, inside sRGB by a margin, with no symmetry."""
    height, width = SIZE
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = 0.25 + 0.6 * columns / (width - 1), 0.3 + 0.5 * rows / (height - 1)
    return np.stack([red, green, 0.35 + 0.3 * (rows + columns) / (height + width - 2)], axis=-1)


def base_alpha() -> np.ndarray:
    """(H, W) in [0.2, 1]."""
    return np.linspace(0.2, 1, SIZE[0] * SIZE[1]).reshape(SIZE)


def turned(x: np.ndarray, orientation: int) -> np.ndarray:
    """What is shown of (H, W, ...) stored with that orientation: where TIFF 6.0 puts row 0 and column 0."""
    return {
        1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1],
        5: x.swapaxes(0, 1), 6: x.swapaxes(0, 1)[:, ::-1], 7: x.swapaxes(0, 1)[::-1, ::-1], 8: x.swapaxes(0, 1)[::-1],
    }[orientation]  # fmt: skip


def error_of(kind: Kind) -> tuple[float | None, str]:
    """(largest error in levels of 255 where the picture is visible, the notes), or (None, the refusal)."""
    try:
        picture = open_picture(kind.data)
    except PictureError as error:
        return None, str(error)
    color = (picture.color[0].permute(1, 2, 0).double().numpy() + 1) / 2
    notes = "; ".join(picture.notes)
    if color.shape != kind.expected.shape or (picture.alpha is None) != (kind.alpha is None):
        return 255.0, f"shape {color.shape}, alpha {picture.alpha is not None}; {notes}"
    if kind.alpha is None or picture.alpha is None:
        return float(np.abs(color - kind.expected).max()) * 255, notes
    visible = kind.alpha > 0
    alpha_error = np.abs(picture.alpha[0, 0].double().numpy() - kind.alpha).max()
    return float(max(np.abs(color - kind.expected)[visible].max(), alpha_error)) * 255, notes


# TIFF ----------------------------------------------------------------------------------------------------------------


def packed(values: np.ndarray, bits: int) -> bytes:
    """(H, samples a row) integers => rows of that many bits a sample, each row on a byte's edge."""
    rows = []
    for row in values:
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


def tiff_bytes(
    samples: np.ndarray, bits: int, photometric: int, planar: int, big: bool, floats: bool = False, **tags: object
) -> bytes:
    """An uncompressed TIFF of (H, W, C) integers or floats in one strip a plane.

    tags: further ones, "t274" => (type, values).
    """
    order = ">" if big else "<"
    height, width, count = samples.shape
    planes = [samples[..., n : n + 1] for n in range(count)] if planar == 2 else [samples]
    whole = bits in (8, 16, 32, 64)
    code = f"{order}f{bits // 8}" if floats else f"{order}u{bits // 8}" if whole else ""
    strips = [plane.astype(code).tobytes() if code else packed(plane.reshape(height, -1), bits) for plane in planes]
    offsets, at = [], 8
    for strip in strips:
        offsets.append(at)
        at += len(strip) + len(strip) % 2
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, offsets), 277: (3, [count]), 278: (4, [height]), 279: (4, [len(strip) for strip in strips]),
        284: (3, [planar]), 339: (3, [3 if floats else 1] * count),
    }  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}  # type: ignore[misc]
    body = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", at)
    table, extra, extra_at = b"", b"", at + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(data) > 4:
            table += struct.pack(f"{order}HHII", tag, kind, len(values), extra_at + len(extra))
            extra += data
        else:
            table += struct.pack(f"{order}HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    return head + body + struct.pack(f"{order}H", len(entries)) + table + struct.pack(f"{order}I", 0) + extra


def tiff_kinds() -> Iterator[Kind]:
    """bits x photometric x planes x alpha x byte order x orientation; then compressions and predictors."""
    for bits, photometric, planar, extra, big in itertools.product(
        (1, 2, 4, 8, 10, 12, 14, 16, 32, "f16", "f32", "f64"), (0, 1, 2, 5), (1, 2), (None, 1, 2), (False, True)
    ):
        floats = isinstance(bits, str)
        depth = int(bits[1:]) if isinstance(bits, str) else bits
        if (photometric in (2, 5) and depth < 8) or (photometric == 5 and floats) or (extra == 1 and photometric != 2):
            continue  # associated alpha is refused where its meaning is not certain
        for orientation in (1, 6) if photometric == 2 else (1, 3):
            yield tiff_kind(depth, floats, photometric, planar, extra, big, orientation)
    color = np.rint(base_picture() * 65535)
    for compression, predictor, bits, tile in itertools.product(
        ("zlib", "lzw", "packbits", "zstd", "lzma"), (False, True), (8, 16), (None, (16, 16))
    ):
        if compression == "packbits" and predictor:
            continue
        stored = np.rint(base_picture() * (2**bits - 1)).astype(f"u{bits // 8}")
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, stored, photometric="rgb", compression=compression, predictor=predictor or None, tile=tile
        )
        name = f"tiff {compression} predictor {predictor} {bits} bits {'tiles' if tile else 'strips'}"
        yield Kind(name=name, suffix=".tif", data=buffer.getvalue(), expected=stored / (2**bits - 1), plain=True)
    for orientation in range(1, 9):
        data = tiff_bytes(color, 16, 2, 1, False, t274=(3, [orientation]))
        shown = turned(color / 65535, orientation)
        yield Kind(name=f"tiff orientation {orientation}", suffix=".tif", data=data, expected=shown, plain=True)


def tiff_kind(
    depth: int, floats: bool, photometric: int, planar: int, extra: int | None, big: bool, orientation: int
) -> Kind:
    base, alpha = base_picture(), base_alpha()
    if photometric in (0, 1):
        base = np.repeat((base @ LUMA)[..., None], 3, axis=-1)
    stored = base[..., :1] if photometric in (0, 1) else base
    top = 1 if floats else 2**depth - 1
    if not floats:
        alpha = np.rint(alpha * top) / top
    if photometric == 5:
        stored = np.concatenate([1 - base, np.zeros((*SIZE, 1))], axis=-1)  # no black
    if extra == 1:
        stored = stored * alpha[..., None]
    if not floats:
        stored = np.rint(stored * top) / top
    color = stored if extra != 1 else np.clip(stored / alpha[..., None], 0, 1)
    if photometric == 5:
        color = 1 - color[..., :3]
    elif photometric < 2:
        color = np.repeat(color, 3, axis=-1)
    if photometric == 0:
        stored = 1 - stored
    channels = stored if extra is None else np.concatenate([stored, alpha[..., None]], axis=-1)
    samples = channels if floats else np.rint(channels * top)
    tags: dict[str, object] = {"t274": (3, [orientation])}
    if extra is not None:
        tags["t338"] = (3, [extra])
    data = tiff_bytes(samples, depth, photometric, planar, big, floats, **tags)
    kind = f"{'float' if floats else 'uint'}{depth} photometric {photometric} planar {planar}"
    return Kind(
        name=f"tiff {kind} extra {extra} {'MM' if big else 'II'} turn {orientation}",
        suffix=".tif",
        data=data,
        expected=turned(color, orientation),
        alpha=None if extra is None else turned(alpha, orientation),
        tolerance=(0.3 if floats and depth == 16 else 0.01) / 255,
        plain=extra is None and photometric in (1, 2) and depth in (8, 16) and not floats,
    )


# PNG -----------------------------------------------------------------------------------------------------------------


def png_bytes(samples: np.ndarray, bits: int, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """(H, W, C) integers => PNG without filters, with chunks before the pixels."""
    height, width, count = samples.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[count]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = packed(samples.reshape(height, -1), bits)
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    parts += [chunk(*one) for one in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def exif_of(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<HH", orientation, 0) + b"\0\0\0\0"


P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
"""Linear Display P3 => linear sRGB, as published (W3C, CSS Color 4)."""
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Linear BT.2020 => linear sRGB (ITU-R BT.2087)."""


def to_linear(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def from_linear(v: np.ndarray) -> np.ndarray:
    v = np.clip(v, 0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


SIGNALS = ("none", "srgb", "gamma 1/2.2", "linear", "gamma 1/1.8", "p3", "p3 chrm", "bt2020", "pq", "limited")


def signalled(signal: str, grey: bool) -> tuple[np.ndarray, list[tuple[bytes, bytes]]]:
    """The samples that mean `base_picture` under a signal, and PNG's chunks that tell it."""
    color = base_picture()
    linear = to_linear(color)
    if signal == "p3" or signal == "p3 chrm":
        value = color if grey else from_linear(linear @ np.linalg.inv(P3_TO_SRGB).T)
        chrm = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
        return value, [(b"cICP", bytes([12, 13, 0, 1]))] if signal == "p3" else [
            (b"gAMA", struct.pack(">I", 45455)),
            (b"cHRM", chrm),
        ]
    if signal == "bt2020":
        value = color if grey else from_linear(linear @ np.linalg.inv(BT2020_TO_SRGB).T)
        return value, [(b"cICP", bytes([9, 13, 0, 1]))]
    if signal == "pq":
        wide = linear if grey else np.clip(linear @ np.linalg.inv(BT2020_TO_SRGB).T, 0, 1)
        power = (wide * 203 / 10000) ** (2610 / 16384)
        value = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
        return value, [(b"cICP", bytes([9, 16, 0, 1]))]
    if signal == "limited":
        return (color * 219 + 16) / 255, [(b"cICP", bytes([1, 13, 0, 0]))]
    gammas = {"linear": 1.0, "gamma 1/1.8": 1 / 1.8}
    if signal in gammas:
        return linear ** gammas[signal], [(b"gAMA", struct.pack(">I", round(gammas[signal] * 100_000)))]
    told = {"none": [], "srgb": [(b"sRGB", b"\0")], "gamma 1/2.2": [(b"gAMA", struct.pack(">I", 45455))]}
    return color, told[signal]


def png_kinds() -> Iterator[Kind]:
    """bits x grey or colour x alpha x colour signalling x orientation."""
    for bits, grey, with_alpha, signal in itertools.product((8, 16), (True, False), (False, True), SIGNALS):
        for orientation in (1, 6, 7) if signal in ("none", "p3") else (1,):
            value, chunks = signalled(signal, grey)
            expected = base_picture()
            if grey:
                value, expected = value[..., 1:2], np.repeat(expected[..., 1:2], 3, axis=-1)
            alpha = np.rint(base_alpha() * 255) / 255
            top = 2**bits - 1
            samples = np.concatenate([value, alpha[..., None]], axis=-1) if with_alpha else value
            if orientation > 1:
                chunks = [*chunks, (b"eXIf", exif_of(orientation))]
            steep = {"linear": 3, "pq": 6, "bt2020": 2.5}.get(signal, 1.5) if bits == 8 else 0.3
            yield Kind(
                name=f"png {bits} bits {'grey' if grey else 'rgb'} alpha {with_alpha} {signal} turn {orientation}",
                suffix=".png",
                data=png_bytes(np.rint(samples * top), bits, chunks),
                expected=turned(expected, orientation),
                alpha=turned(alpha, orientation) if with_alpha else None,
                tolerance=steep / 255,
                plain=signal in ("none", "srgb", "gamma 1/2.2") and not with_alpha and orientation == 1,
            )
    for bits in (1, 2, 4):
        top = 2**bits - 1
        stored = np.rint(base_picture()[..., 1:2] * top)
        yield Kind(
            name=f"png {bits} bits grey", suffix=".png", data=png_bytes(stored, bits, []),
            expected=np.repeat(stored / top, 3, axis=-1), plain=True,
        )  # fmt: skip


# JPEG, WebP, BMP, GIF, AVIF, HEIC ------------------------------------------------------------------------------------


def lossy_kinds() -> Iterator[Kind]:
    """The formats that Pillow, imagecodecs and pillow-heif write, as exactly as they can."""
    color = Image.fromarray(np.rint(base_picture() * 255).astype(np.uint8))
    expected = np.asarray(color) / 255
    luma = np.repeat(np.asarray(color.convert("L"))[..., None], 3, axis=-1) / 255
    for orientation, grey in itertools.product(range(1, 9), (False, True)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = color.convert("L") if grey else color
        shown = turned(luma if grey else expected, orientation)
        for name, suffix, tolerance, options in (
            ("JPEG", ".jpg", 3, {"quality": 100, "subsampling": 0}),
            ("WEBP", ".webp", 1, {"lossless": True}),
        ):
            buffer = io.BytesIO()
            image.save(buffer, name, exif=exif, **options)
            title = f"{name.lower()} {'grey' if grey else 'rgb'} turn {orientation}"
            yield Kind(
                name=title, suffix=suffix, data=buffer.getvalue(), expected=shown, tolerance=tolerance / 255, plain=True
            )
    for mode, name, suffix in itertools.product(("L", "RGB", "P"), ("BMP", "GIF", "TIFF"), ("",)):
        image = color.quantize(200) if mode == "P" or (name == "GIF" and mode == "RGB") else color.convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, name)
        title = f"{name.lower()} {mode}{suffix}"
        pixels = np.asarray(image.convert("RGB")) / 255
        yield Kind(name=title, suffix=f".{name.lower()}", data=buffer.getvalue(), expected=pixels, plain=True)
    yield from avif_kinds()
    yield from heic_kinds()


CODES = {"srgb": (1, 13), "p3": (12, 13), "bt2020": (9, 13), "pq": (9, 16)}


def coded(signal: str) -> np.ndarray:
    return signalled({"srgb": "none"}.get(signal, signal), grey=False)[0]


def avif_kinds() -> Iterator[Kind]:
    import imagecodecs

    for bits, signal, with_alpha in itertools.product((8, 10, 12), CODES, (False, True)):
        primaries, transfer = CODES[signal]
        top = 2**bits - 1
        value = coded(signal)
        if with_alpha:
            value = np.concatenate([value, base_alpha()[..., None]], axis=-1)
        stored = np.rint(value * top).astype(np.uint8 if bits == 8 else np.uint16)
        try:
            data = imagecodecs.avif_encode(
                stored,
                level=100,
                speed=8,
                bitspersample=bits,
                primaries=primaries,
                transfer=transfer,
                pixelformat="444",
            )
        except (RuntimeError, ValueError):
            continue
        tolerance = (12 if signal == "pq" and bits == 8 else 6 if bits == 8 and signal != "srgb" else 3) / 255
        yield Kind(
            name=f"avif {bits} bits {signal} alpha {with_alpha}", suffix=".avif", data=bytes(data),
            expected=base_picture(), alpha=base_alpha() if with_alpha else None, tolerance=tolerance,
            plain=signal == "srgb" and not with_alpha and bits == 8,
        )  # fmt: skip


def heic_kinds() -> Iterator[Kind]:
    try:
        import pillow_heif
    except ImportError:
        return
    for bits, signal, with_alpha in itertools.product((8, 10), CODES, (False, True)):
        primaries, transfer = CODES[signal]
        value = coded(signal)
        if with_alpha:
            value = np.concatenate([value, base_alpha()[..., None]], axis=-1)
        stored = np.rint(value * (255 if bits == 8 else 65535)).astype(np.uint8 if bits == 8 else np.uint16)
        mode = ("RGBA" if with_alpha else "RGB") + ("" if bits == 8 else ";16")
        image = pillow_heif.from_bytes(mode, SIZE[::-1], np.ascontiguousarray(stored).tobytes())
        buffer = io.BytesIO()
        image.save(
            buffer, quality=100, chroma=444, color_primaries=primaries, transfer_characteristics=transfer,
            matrix_coefficients=6, full_range_flag=1,
        )  # fmt: skip
        tolerance = (16 if signal == "pq" else 9 if signal != "srgb" else 6) / 255
        yield Kind(
            name=f"heic {bits} bits {signal} alpha {with_alpha}", suffix=".heic", data=buffer.getvalue(),
            expected=base_picture(), alpha=base_alpha() if with_alpha else None, tolerance=tolerance,
        )  # fmt: skip


def all_kinds() -> Iterator[Kind]:
    """Every combination; some 900."""
    yield from png_kinds()
    yield from tiff_kinds()
    yield from lossy_kinds()

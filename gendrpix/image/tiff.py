"""TIFF files read by their tags: which page is the picture, how its samples are stored, what they mean.

tifffile parses and decodes (imagecodecs decompresses); Pillow keeps the pages that are coded as whole pictures, JPEG
and fax for instance. What the tags do not make certain is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from gendrpix.errors import PictureError
from gendrpix.image.color_space import SRGB, Chromaticities, ColorSpace, usable
from gendrpix.image.deep import Deep, scale_floats, scale_integers
from gendrpix.image.formats import raw_refusal
from gendrpix.image.picture import Limits, check_size
from gendrpix.specs import Box

if TYPE_CHECKING:
    import tifffile

MAX_PAGES = 64
"""Pages looked at for the one that is no reduced copy, and for counting."""
REDUCED, MASK = 1, 4  # bits of NewSubfileType
GREYS, RGB, PALETTE, CMYK, YCBCR, LAB = (0, 1), 2, 3, 5, 6, 8
KINDS: dict[int, Literal["grey", "rgb", "cmyk"]] = {1: "grey", 3: "rgb", 4: "cmyk"}
SENSOR = (32803, 34892)  # photometric: colour filter array, linear raw
PLAIN_COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)
"""None, LZW, deflate twice, packbits, LZMA, zstd: bytes in, the same bytes out."""
JPEG_COMPRESSIONS, FAX_COMPRESSIONS = (6, 7), (2, 3, 4)
TAG_NAMES = {"DNGVersion": 50706, "ColorMap": 320, "WhitePoint": 318, "PrimaryChromaticities": 319, "ICC": 34675}
MAX_TILE_WASTE = 4_000_000  # pixels by which one tile may be larger than the picture


@dataclass(frozen=True)
class TiffPage:
    """The page that is the picture."""

    page: tifffile.TiffPage
    index: int | None
    """Where it stands among the pages; None inside another page."""
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return int(self.page.imagewidth), int(self.page.imagelength)

    @property
    def orientation(self) -> int:
        tag = self.page.tags.get(274)
        return tag.value if tag is not None and isinstance(tag.value, int) else 1

    @property
    def icc(self) -> bytes | None:
        tag = self.page.tags.get(TAG_NAMES["ICC"])
        return bytes(tag.value) if tag is not None and isinstance(tag.value, bytes) else None

    @property
    def exif(self) -> dict[int, Any]:
        """ColorSpace and the interoperability index, by their EXIF codes, as far as they are there."""
        tags = self.page.tags
        exif = tags.get(34665)
        pairs = exif.value if exif is not None and isinstance(exif.value, dict) else {}
        inside = pairs.get("InteroperabilityTag") or {}
        index = inside.get("InteroperabilityIndex") if isinstance(inside, dict) else None
        return {0xA001: pairs.get("ColorSpace"), 1: index}

    @property
    def space(self) -> ColorSpace | None:
        """The colour space of the tags WhitePoint and PrimaryChromaticities, or None."""
        primaries, white = (rationals(self.page, TAG_NAMES[name]) for name in ("PrimaryChromaticities", "WhitePoint"))
        if len(primaries) != 6:
            return None
        values: Any = (*primaries, *(white if len(white) == 2 else SRGB[6:]))
        chromaticities: Chromaticities = values
        return ColorSpace(primaries=chromaticities, name="its own primaries") if usable(chromaticities) else None


def rationals(page: tifffile.TiffPage, code: int) -> tuple[float, ...]:
    tag = page.tags.get(code)
    values = tag.value if tag is not None and isinstance(tag.value, tuple) else ()
    pairs = zip(values[::2], values[1::2], strict=False)
    return tuple(one / other for one, other in islice(pairs, 6) if other)


def open_tiff(file: BinaryIO, name: str) -> TiffPage:
    """The page to read of a TIFF. PictureError for raw files; anything else for what is damaged."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong comes as our own sentence
    tiff = tifffile.TiffFile(file, name="picture")
    pages: list[Any] = list(islice(first_pages(tiff), MAX_PAGES))
    if is_raw(file, pages):
        raise raw_refusal(name)
    whole = [(number, page) for number, page in enumerate(pages) if not is_reduced(page)]
    notes = []
    if not whole:
        inside = [sub for page in pages for sub in sub_pages(page) if not is_reduced(sub)]
        if inside:
            return TiffPage(
                inside[0], None, ("only a reduced copy stands among the pages: the page inside it is read",)
            )
        whole = [(0, pages[0])]
        notes.append("the file holds reduced copies alone: the first is read")
    index, page = whole[0]
    if index:
        notes.append(f"page {index + 1} is read: those before it are reduced copies")
    if len(whole) > 1:
        many = len(pages) == MAX_PAGES
        notes.append("first of several frames" if many else f"first of {len(whole)} frames")
    return TiffPage(page, index, tuple(notes))


def first_pages(tiff: tifffile.TiffFile) -> Iterator[Any]:
    """The pages in turn; a broken later one ends the walk."""
    yield tiff.pages[0]
    for number in range(1, MAX_PAGES):
        try:
            yield tiff.pages[number].aspage()
        except PictureError:  # the time is over
            raise
        except Exception:  # there is no further page, or it is damaged: the first ones may still be whole
            return


def sub_pages(page: Any) -> list[Any]:
    """The pages inside a page."""
    try:
        return [one.aspage() for one in islice(page.pages or (), MAX_PAGES)]
    except PictureError:
        raise
    except Exception:
        return []


def is_reduced(page: Any) -> bool:
    """Whether a page says that it is a reduced copy or a mask."""
    kind, old = page.tags.get(254), page.tags.get(255)
    if kind is not None and isinstance(kind.value, int):
        return bool(kind.value & (REDUCED | MASK))
    return old is not None and old.value == 2


def is_raw(file: BinaryIO, pages: list[Any]) -> bool:
    """Whether a TIFF is a camera's raw file: DNG and CR2 by their marks, others by a page of sensor data."""
    file.seek(8)
    if file.read(2) == b"CR" or any(TAG_NAMES["DNGVersion"] in page.tags for page in pages[:1]):
        return True
    return any(int(one.photometric) in SENSOR for page in pages for one in (page, *sub_pages(page)))


# Samples -------------------------------------------------------------------------------------------------------------


def reader_of(found: TiffPage, name: str, limits: Limits) -> Literal["pillow", "tifffile"]:
    """Which library reads the samples as the tags say. PictureError where none is certain to."""
    page, (width, height) = found.page, found.size
    check_size(width, height, limits)
    photometric, compression, bits = int(page.photometric), int(page.compression), page.bitspersample
    tag = page.tags.get(339)
    formats = set(tag.value) if tag is not None and isinstance(tag.value, tuple) else {int(page.sampleformat)}
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    if isinstance(bits, tuple) or len(formats) > 1 or page.imagedepth != 1:
        raise unusual(name, "samples of different sizes or kinds")
    if 2 in formats or 5 in formats or 6 in formats:
        raise unusual(name, "signed or complex samples")
    if compression in FAX_COMPRESSIONS and bits == 1 and photometric in GREYS and page.samplesperpixel == 1:
        return "pillow"
    if photometric == YCBCR and bits == 8 and planes == 1 and page.samplesperpixel == 3 and found.index is not None:
        return "pillow"
    if photometric == LAB and bits == 8 and planes == 1 and page.samplesperpixel == 3 and found.index is not None:
        return "pillow"
    if compression not in (*PLAIN_COMPRESSIONS, *JPEG_COMPRESSIONS):
        if bits == 8 and planes == 1 and photometric in (1, RGB) and found.index is not None:
            return "pillow"  # WebP, JPEG 2000 where it can, or its own refusal
        raise unusual(name, f"compression {compression} with {bits} bits a sample")
    least = {RGB: 3, CMYK: 4, PALETTE: 1, 0: 1, 1: 1}.get(photometric)
    if least is None or page.samplesperpixel < least or page.samplesperpixel - least > 8:
        raise unusual(name, f"photometric {photometric} with {page.samplesperpixel} samples of {bits} bits")
    if is_associated(page) and photometric != RGB:
        raise unusual(name, f"photometric {photometric} and premultiplied transparency")
    return "tifffile"


def unusual(name: str, what: str) -> PictureError:
    return PictureError(f"{name} is a TIFF with {what}, which is not read; save it as 8-bit or 16-bit RGB or grey.")


def read_samples(found: TiffPage, name: str, part: Box | None = None) -> Deep:
    """The samples of the page or of a part of it, as stored, with what they mean.

    Raises PictureError where they are not all there.
    """
    page = found.page
    check_segments(page, name, found.size)
    stored: NDArray[Any] = page.asarray(maxworkers=1)
    samples, (width, height) = page.samplesperpixel, found.size
    if page.planarconfig == 2 and samples > 1:
        stored = np.moveaxis(stored.reshape(samples, height, width), 0, -1)
    stored = stored.reshape(height, width, samples)
    photometric, bits = int(page.photometric), int(page.bitspersample)
    wanted = (slice(None), slice(None)) if part is None else part.slices
    before, after = (wanted, ...) if stored.dtype.kind in "bu" and bits <= 16 else (..., wanted)
    stored = stored[before]  # before the scaling, unless its scale is seen in the whole alone
    notes: list[str] = []
    if photometric == PALETTE:
        base, values = 3, looked_up(page, stored[..., 0], name)
        if samples > 1:
            values = np.concatenate([values, scaled(stored[..., 1:], bits, name)[0]], axis=-1)
    else:
        base = {RGB: 3, CMYK: 4}.get(photometric, 1)
        values, notes = scaled(stored, bits, name)
    values = values[after]
    alpha, note = alpha_of(page, values[..., base:])
    colors = values[..., :base]
    if photometric == 0:
        colors = 1 - colors
    if alpha is not None and is_associated(page):
        colors = np.clip(colors / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    return Deep(
        values=np.ascontiguousarray(colors, dtype=np.float32),
        kind=KINDS[base],
        alpha=alpha,
        icc=found.icc,
        space=found.space,
        notes=tuple(notes) + ((note,) if note else ()),
        orientation=found.orientation,
    )


def check_segments(page: Any, name: str, size: tuple[int, int]) -> None:
    """Refuse a page whose strips or tiles are not all in the file, or are larger than the picture can need."""
    width, height = size
    offsets, counts, end = page.dataoffsets, page.databytecounts, page.parent.filehandle.size
    per_plane = page.samplesperpixel if page.planarconfig == 2 else 1
    if page.is_tiled:
        tall, wide = page.tilelength, page.tilewidth
        if min(tall, wide) < 1 or tall * wide > width * height + MAX_TILE_WASTE:
            raise damaged(name)
        expected = -(-height // tall) * -(-width // wide) * per_plane
    else:
        expected = -(-height // max(1, min(page.rowsperstrip, height))) * per_plane
    inside = all(
        count > 0 and offset > 0 and offset + count <= end for offset, count in zip(offsets, counts, strict=False)
    )
    if not len(offsets) == len(counts) or len(offsets) < expected or not inside:
        raise damaged(name)


def damaged(name: str) -> PictureError:
    return PictureError(
        f"{name} is a TIFF whose strips or tiles are damaged or cut short; send it again or save it anew."
    )


def scaled(stored: NDArray[Any], bits: int, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """Stored samples => [0, 1], by their bits, and notes."""
    if stored.dtype.kind == "f":
        return scale_floats(stored, name)
    if stored.dtype.kind == "b":
        return stored.astype(np.float32), []
    if stored.dtype.kind != "u":
        raise unusual(name, f"samples of type {stored.dtype}")
    return scale_integers(stored, bits, name)


def looked_up(page: Any, indices: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Palette indices => RGB in [0, 1]. A map that holds nothing above 255 was written in 8 bits."""
    tag = page.tags.get(TAG_NAMES["ColorMap"])
    table = np.asarray(tag.value if tag is not None else ())
    if table.size % 3 or table.size == 0 or int(indices.max(initial=0)) >= table.size // 3:
        raise damaged(name)
    table = table.reshape(3, -1).T
    top = 255 if table.max() <= 255 else 65535
    return np.asarray((table / top)[indices], np.float32)


def is_associated(page: Any) -> bool:
    return bool(page.extrasamples) and int(page.extrasamples[0]) == 1


def alpha_of(page: Any, extra: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, str | None]:
    """The extra sample that is alpha, if the first one says so, and a note on those that are not used."""
    if not extra.shape[-1]:
        return None, None
    if page.extrasamples and int(page.extrasamples[0]) in (1, 2):
        return np.clip(extra[..., 0], 0, 1), None
    return None, "extra channel that is not said to be transparency: not used"

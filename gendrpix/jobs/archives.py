"""Zip files of pictures, in and out.

What comes in may have been made to do harm: no name from it is ever used as a path, and what it unpacks to is counted
while it is unpacked, because its own figures can lie.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gendrpix.image.formats import SUFFIXES
from gendrpix.image.picture import DEFAULT_LIMITS
from gendrpix.jobs.names import FreeNames

CHUNK_BYTES = 2**18
DIRECTORY_BYTES = 2**21
"""Most that the list of a zip's files may take: some 10,000 names."""
RATIO_FLOOR_BYTES = 10_000_000
"""What a file may unpack to in any case, however well it was packed."""
NAME_PARTS, NAME_CHARACTERS = 6, 100
"""Folders and file that are kept of a name, and characters of each."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


class ArchiveError(ValueError):
    """A zip file that is refused as a whole, in one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class ZipLimits:
    """What a zip file may hold."""

    max_files: int = 500
    """Pictures."""
    max_file_bytes: int = DEFAULT_LIMITS.max_bytes
    """Of one picture, unpacked."""
    max_total_bytes: int = 1_000_000_000
    """Of all pictures, unpacked."""
    max_ratio: int = 200
    """How many times larger than packed a picture may become, beyond the first 10 MB."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A file here and the name that its owner knows it by."""

    path: Path
    name: str
    """Relative, parts divided by "/", safe to be used as a path: see `plain_name`."""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What came out of a zip file."""

    pictures: tuple[Named, ...]
    refused: tuple[tuple[str, str], ...] = ()
    """(name, why that picture was not unpacked, a sentence)."""
    num_others: int = 0
    """Files that are no pictures by their names."""


# In ----------------------------------------------------------------------------------------------------------------


class _Bounded(io.FileIO):
    """A file of which no more than `DIRECTORY_BYTES` can be read at once, so that no list of files is too long."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = DIRECTORY_BYTES + 1 if size is None or size < 0 else size
        data = super().read(wanted) if wanted <= DIRECTORY_BYTES + 1 else None
        if data is None or len(data) > DIRECTORY_BYTES:
            raise ArchiveError("The zip file lists far too many files; divide it into several.")
        return data


def unpack(path: Path, folder: Path, limits: ZipLimits = ZipLimits()) -> Unpacked:
    """Unpack the pictures of a zip file into `folder` under names of our own: 0001.png, 0002.jpg ...

    One picture that is damaged, encrypted or too large is refused alone. Raises ArchiveError for what is no zip file,
    for more pictures or bytes than the limits allow, and for a zip bomb.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[Named] = []
    refused: list[tuple[str, str]] = []
    total = 0
    try:
        with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            chosen = [one for one in entries if is_picture(one.filename)]
            if len(chosen) > limits.max_files:
                raise ArchiveError(
                    f"The zip file holds {len(chosen)} pictures and {limits.max_files} are accepted; divide it."
                )
            for number, entry in enumerate(chosen, start=1):
                name = plain_name(entry.filename)
                target = folder / f"{number:04d}{PurePosixPath(name).suffix.lower()}"
                reason, size = unpack_one(archive, entry, target, limits, limits.max_total_bytes - total)
                total += size
                if reason is None:
                    pictures.append(Named(path=target, name=name))
                else:
                    target.unlink(missing_ok=True)
                    refused.append((name, reason))
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError("The zip file is damaged or of a kind that cannot be read; pack it anew.") from error
    if not pictures and not refused:
        raise ArchiveError(f"The zip file holds no pictures ({', '.join(SUFFIXES)}); choose another.")
    return Unpacked(pictures=tuple(pictures), refused=tuple(refused), num_others=len(entries) - len(chosen))


def unpack_one(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, limits: ZipLimits, left_bytes: int
) -> tuple[str | None, int]:
    """Write one entry to `target`: (None or the reason why not, bytes that were unpacked).

    Raises ArchiveError where the whole zip file has become too large.
    """
    if entry.flag_bits & ENCRYPTED:
        return "It is encrypted; pack it without a password.", 0
    if entry.compress_type not in METHODS:
        return "It is packed in an uncommon way; pack it as an ordinary zip file.", 0
    most = max(RATIO_FLOOR_BYTES, entry.compress_size * limits.max_ratio)
    size = 0
    try:
        with archive.open(entry) as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > left_bytes:
                    raise ArchiveError(
                        f"The zip file unpacks to more than {limits.max_total_bytes / 1e6:.0f} MB; divide it."
                    )
                if size > limits.max_file_bytes:
                    return f"It has more than {limits.max_file_bytes / 1e6:.0f} MB; make it smaller.", size
                if size > most:
                    return f"It unpacks to more than {limits.max_ratio} times its size; send it as it is.", size
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return "It is damaged within the zip file; pack it anew.", size
    return None, size


def is_picture(name: str) -> bool:
    """Whether a name in a zip file is a picture's; hidden files and macOS's extra folder are not."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any((part.startswith(".") and part not in ("..", ".")) or part == "__MACOSX" for part in parts)
    return bool(parts) and not hidden and PurePosixPath(parts[-1]).suffix.lower() in SUFFIXES


def plain_name(name: str) -> str:
    """Somebody's name for a file as a relative path that stays within its folder on any system, "photo" if empty.

    The last few parts are kept, without "..", drive, control and direction characters, and shortened.
    """
    kept = []
    for part in name.replace("\\", "/").split("/")[-NAME_PARTS:]:
        visible = "".join(c for c in part if unicodedata.category(c)[0] != "C")
        plain = re.sub(r'[<>:"|?*]', "_", visible).strip(" .")
        if len(plain) > NAME_CHARACTERS:
            suffix = PurePosixPath(plain).suffix[:10]
            plain = plain[: NAME_CHARACTERS - len(suffix)] + suffix
        if plain:
            kept.append(plain)
    return "/".join(kept) or "photo"


def without_twins(files: Iterable[Named]) -> list[Named]:
    """The files, those whose results would share a name (another suffix, other capitals) numbered: "cat (2).png"."""
    free = FreeNames()
    found = []
    for file in files:
        path = PurePosixPath(file.name)
        name = free.take(path.with_suffix("").as_posix())
        found.append(Named(path=file.path, name=name + path.suffix))
    return found


# Out ---------------------------------------------------------------------------------------------------------------


def pack(files: Iterable[Named], target: Path) -> Path:
    """Write a zip file with these files under their names. Pictures are packed already, so they are only stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            packed = zipfile.ZIP_STORED if file.path.suffix in SUFFIXES else zipfile.ZIP_DEFLATED
            archive.write(file.path, file.name, compress_type=packed)
    return target

"""What lies in a folder: whole files, and those that a killed process has left unfinished."""

from pathlib import Path

from gendrpix.files import PART_NAME

Contents = dict[str, bytes]


def read_folder(folder: Path) -> Contents:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def split_parts(contents: Contents) -> tuple[Contents, Contents]:
    """(what has its name, what is not whole yet)."""
    parts = {name: data for name, data in contents.items() if PART_NAME.fullmatch(Path(name).name)}
    return {name: data for name, data in contents.items() if name not in parts}, parts

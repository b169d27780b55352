"""Weights from strangers, looked at before anything is allocated or run: configurations, headers, hashes.

Weights are safetensors, which hold numbers and nothing that could run. Configurations are JSON, of which only known
classes and plain values of sane sizes are let through. What a file holds must be exactly what its configuration calls
for, name by name and shape by shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gendrpix.files import write_text

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
SUMS_FILE = "SHA256SUMS"
"""The hashes of a family's files, as `sha256sum -c` reads them."""
MAX_JSON_BYTES = 1_000_000
MAX_HEADER_BYTES = 10_000_000
"""sd21's UNet has 79,000."""
MAX_WIDTH, MAX_REPEATS, MAX_LIST = 65_536, 16, 16
"""The largest number in a configuration, the most layers in a block, the longest list."""
MAX_PARAMETERS = 4_000_000_000
"""Four and a half times sd21's."""
MAX_CARD_CHARS = 4000
DTYPES = ("F16", "BF16", "F32")

Shapes = Mapping[str, tuple[int, ...]]


class WeightsError(ValueError):
    """Weights that are refused, in one sentence for the user."""


# Configurations ------------------------------------------------------------------------------------------------------


def read_config(path: Path) -> dict[str, Any]:
    """A configuration: a JSON object with plain values of sane sizes. Raises WeightsError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{path} is larger than {MAX_JSON_BYTES:,} bytes; expected a small configuration.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name}; pass a folder as gendrpix or its training saved it."
        ) from error
    except WeightsError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({type(error).__name__}); get it again.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path} holds a {type(config).__name__}; expected a JSON object.")
    for key, value in config.items():
        if not is_sane(value, MAX_REPEATS if "layers" in key else MAX_WIDTH):
            raise WeightsError(
                f"{path} has {key} = {str(value)[:60]!r}; expected plain values, numbers up to {MAX_WIDTH:,}, layers "
                f"up to {MAX_REPEATS} and lists up to {MAX_LIST} long."
            )
    return config


def is_sane(value: Any, largest: int, depth: int = 0) -> bool:
    """Whether that is null, a truth value, a short text, a number within +-largest, or a short list of such."""
    if isinstance(value, list):
        return depth < 3 and len(value) <= MAX_LIST and all(is_sane(one, largest, depth + 1) for one in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return -largest <= value <= largest
    return value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= 200)


# Weights -------------------------------------------------------------------------------------------------------------


def check_model(folder: Path, kind: type[Any]) -> None:
    """Raise WeightsError unless the folder holds a model of that class, and exactly the weights it needs."""
    config = read_config(folder / CONFIG_FILE)
    if config.get("_class_name") != kind.__name__:
        got = str(config.get("_class_name"))[:60]
        raise WeightsError(f"{folder / CONFIG_FILE} names the class {got!r}; expected {kind.__name__}.")
    found = read_shapes(folder / WEIGHTS_FILE)
    try:
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in kind.from_config(config).state_dict().items()}
    except Exception as error:
        raise WeightsError(
            f"{folder / CONFIG_FILE} describes no {kind.__name__} that can be built ({type(error).__name__}); get it "
            "again, or export the weights again."
        ) from error
    compare_shapes(folder / WEIGHTS_FILE, found, wanted)


def read_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors in a safetensors file, from its header. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name} that can be read ({error.strerror}); only safetensors are loaded."
        ) from error
    check_start(path, start)
    try:
        with safe_open(path, "pt") as file:  # checks the header against the file's length
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            dtypes = {part.get_dtype() for part in parts.values()}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({str(error)[:100]}); get it again.") from error
    if not dtypes <= set(DTYPES):
        raise WeightsError(f"{path} holds {', '.join(sorted(dtypes))}; expected {', '.join(DTYPES)}.")
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    if total > MAX_PARAMETERS:
        raise WeightsError(f"{path} holds {total:,} numbers and the limit is {MAX_PARAMETERS:,}; get a smaller model.")
    return shapes


def check_start(path: Path, start: bytes) -> None:
    """Raise WeightsError unless a file that begins so, 9 bytes, may be safetensors with a header of sane length."""
    length = int.from_bytes(start[:8], "little")
    if start.startswith(b"version "):
        raise WeightsError(f"{path} is a pointer of Git LFS, not the file; run `git lfs pull`.")
    if start[8:] != b"{" or length > MAX_HEADER_BYTES:
        if len(start) == 9 and start.startswith((b"\x80", b"PK")):
            raise WeightsError(f"{path} is a pickle, which can run code, and is not loaded; get it as safetensors.")
        if start[8:] != b"{":
            raise WeightsError(f"{path} is no safetensors file or cut short; get it again.")
        raise WeightsError(
            f"{path} has a header of {length:,} bytes and the limit is {MAX_HEADER_BYTES:,}; get it again."
        )


def compare_shapes(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Raise WeightsError for a tensor too few, too many or of another shape."""
    for names, words in ((wanted.keys() - found.keys(), "lacks"), (found.keys() - wanted.keys(), "has, unasked,")):
        if names:
            raise WeightsError(
                f"{path} {words} {min(names)[:100]!r} ({len(names)} such); expected exactly what {CONFIG_FILE} beside "
                "it describes."
            )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise WeightsError(f"{path} has {name} of shape {found[name]}; {CONFIG_FILE} beside it describes {shape}.")


# Hashes --------------------------------------------------------------------------------------------------------------


def write_sums(family: Path) -> Path:
    """Write the SHA-256 of every configuration and weights file below a family's folder into it."""
    lines = [f"{digest(path)}  {path.relative_to(family).as_posix()}\n" for path in listed_files(family)]
    write_text(family / SUMS_FILE, "".join(lines))
    return family / SUMS_FILE


def check_sums(folder: Path, *, required: bool = False) -> None:
    """Compare a folder's configurations and weights with the list in it or beside it, where there is one.

    Raises WeightsError for a file that is another, is missing or is not listed, and where a required list is missing.
    """
    family = next((place for place in (folder, folder.parent) if (place / SUMS_FILE).is_file()), None)
    if family is None:
        if required:
            raise WeightsError(
                f"{folder.parent} has no {SUMS_FILE}, the bundled weights' hashes; install gendrpix again."
            )
        return
    listed = read_sums(family / SUMS_FILE)
    inside = folder.relative_to(family).as_posix() + "/" if folder != family else ""
    expected = {name: value for name, value in listed.items() if name.startswith(inside)}
    found = {path.relative_to(family).as_posix(): path for path in listed_files(folder)}
    for name in sorted(expected.keys() | found.keys()):
        wrong = "is missing" if name not in found else "is not listed there" if name not in expected else ""
        if not wrong and digest(found[name]) != expected[name]:
            wrong = "is another file than the one listed there"
        if wrong:
            raise WeightsError(
                f"{family / SUMS_FILE} and {name} do not agree: it {wrong}; get the weights again, or remove the list "
                "if you have changed them yourself."
            )


def read_sums(path: Path) -> dict[str, str]:
    """File names => SHA-256 in hexadecimal. Raises WeightsError."""
    lines = path.read_text(encoding="utf-8", errors="replace")[:MAX_JSON_BYTES].splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    if not pairs or any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise WeightsError(f"{path} is no list of SHA-256 hashes; get the weights again.")
    return {name: value for value, name in pairs}


def listed_files(folder: Path) -> list[Path]:
    """What decides how a folder's models behave: configurations and weights, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors") and path.is_file())


def digest(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_weights(folder: Path) -> str:
    """SHA-256 of a restorer's folder: names and contents of its configurations and weights, and of a shared VAE's."""
    folders = [folder]
    shared = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("shared_vae")
    if shared:
        folders.append(folder / shared)
    total = hashlib.sha256()
    for number, place in enumerate(folders):
        files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
        for path in files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{number}/{path.relative_to(place).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def stated_licence(folder: Path | None) -> str:
    """The licence that the card (README.md) in or above a restorer's folder states in its first lines."""
    for place in () if folder is None else (folder, folder.parent):
        if (card := place / "README.md").is_file():
            with card.open(encoding="utf-8", errors="replace") as file:
                for line in file.read(MAX_CARD_CHARS).splitlines():
                    if line.startswith(("license:", "license_name:")) and not line.endswith(" other"):
                        return line.partition(":")[2].strip(" '\"")[:200]
    return "not stated beside the weights"

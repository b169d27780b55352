"""Networks of others by name: where their files lie, and how each is opened.

The folder is the operator's: GENDRPIX_BASELINES, or the user's cache, which `make baselines` fills. Files that a
visitor uploads are never looked at.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

import gendrpix.baselines
from gendrpix.baselines.restorer import Network, NetworkRestorer
from gendrpix.files import digest_file
from gendrpix.weights.verify import read_config

FOLDER_VARIABLE = "GENDRPIX_BASELINES"
CARD_SUFFIX = ".json"
"""MODEL.json beside a network's file may say its "label", "licence" and "source"."""
NO_LICENCE = "not stated beside the file"


@dataclass(frozen=True, kw_only=True)
class BaselineFile:
    """A network's file that was found and not opened yet."""

    name: str
    """The file's name without its ending, in lower case."""
    path: Path
    label: str
    licence: str


@cache
def formats() -> Mapping[str, ModuleType]:
    """Ending of a file => the module that opens it.

    A module NAME_files.py beside this one is a format: it has SUFFIXES and open_network(file, device, dtype).
    """
    names = [found.name for found in pkgutil.iter_modules(gendrpix.baselines.__path__)]
    modules = [importlib.import_module(f"gendrpix.baselines.{name}") for name in names if name.endswith("_files")]
    return {suffix: module for module in modules for suffix in module.SUFFIXES}


def baselines_folder() -> Path:
    """Where networks are looked for: GENDRPIX_BASELINES, else gendrpix/baselines in the user's cache."""
    if place := os.environ.get(FOLDER_VARIABLE):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gendrpix" / "baselines"


def find_baselines(folder: Path | None = None) -> dict[str, BaselineFile]:
    """The networks in a folder and the folders within, by name; nothing is opened but the cards beside them.

    folder: `baselines_folder()` where none is given; empty where it does not exist. Of two files of one name the
    second is found by its name with its ending.
    """
    place = baselines_folder() if folder is None else folder
    found: dict[str, BaselineFile] = {}
    for path in sorted(place.rglob("*")) if place.is_dir() else []:
        if path.suffix.lower() in formats() and path.is_file():
            name = path.stem.casefold()
            one = describe_file(path)
            found.setdefault(name if name not in found else path.name.casefold(), one)
    return found


def describe_file(path: Path) -> BaselineFile:
    """The file with what the card beside it says. Raises WeightsError for a card that is no small JSON object."""
    card = path.with_suffix(CARD_SUFFIX)
    told = read_config(card) if card.is_file() else {}
    label, licence = (told.get(key) for key in ("label", "licence"))
    return BaselineFile(
        name=path.stem.casefold(),
        path=path,
        label=label if isinstance(label, str) and label else path.stem,
        licence=licence if isinstance(licence, str) and licence else NO_LICENCE,
    )


def open_baseline(
    place: str | Path, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> NetworkRestorer:
    """The network of that name in `baselines_folder()`, or in that file.

    device, dtype: asked for; a format that has one alone keeps it. Raises ValueError in a sentence where there is no
    such network, its file does not fit, or a package is missing.
    """
    path = Path(place)
    if path.suffix.lower() in formats() and (path.is_file() or len(path.parts) > 1):
        file = describe_file(path)
    else:
        known = find_baselines()
        if str(place).casefold() not in known:
            raise ValueError(
                f"No network {str(place)!r}: {baselines_folder()} has {', '.join(known) or 'none'}. Pass one of them, "
                f"or a file ({', '.join(formats())}); `make baselines` installs Real-ESRGAN's."
            )
        file = known[str(place).casefold()]
    network = open_network(file.path, device or torch.device("cpu"), dtype)
    weights = file.path.with_suffix(".bin") if file.path.suffix == ".param" else file.path
    licence = network.licence if file.licence == NO_LICENCE and network.licence else file.licence
    return NetworkRestorer(network, name=file.name, label=file.label, licence=licence, digest=digest_file(weights))


def open_network(file: Path, device: torch.device, dtype: torch.dtype) -> Network:
    """The network in a file, by its ending. On a GPU PyTorch runs ncnn's plain networks too; others stay on the CPU.

    Raises ValueError in a sentence.
    """
    suffix = file.suffix.lower()
    if suffix not in formats():
        raise ValueError(f"{file.name} is no network that can be run; expected a file {', '.join(formats())}.")
    if suffix == ".param" and device.type != "cpu":
        with contextlib.suppress(ValueError):
            on_device: Network = formats()[".pth"].open_network(file, device, dtype)
            return on_device
    opened: Network = formats()[suffix].open_network(file, device, dtype)
    return opened


def open_baselines(
    places: Sequence[str], device: torch.device, dtype: torch.dtype = torch.float32, *, taken: Sequence[str] = ()
) -> list[NetworkRestorer]:
    """The networks of these names or files, in order. Raises ValueError, also for a name that comes twice."""
    opened: list[NetworkRestorer] = []
    for place in places:
        found = open_baseline(place, device, dtype)
        if found.name in {*taken, *(other.name for other in opened)}:
            raise ValueError(f"The name {found.name!r} comes twice; give each network once, or rename its file.")
        opened.append(found)
    return opened

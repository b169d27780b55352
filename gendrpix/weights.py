"""Where weights lie: bundled ones by name, folders, hub ids; one way to each."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderDC, AutoencoderKL
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from gendrpix.networks import Autoencoder
from gendrpix.specs import find_restorer

INSTALLED = Path(__file__).resolve().parent / "assets"
BUNDLED = (INSTALLED if INSTALLED.is_dir() else INSTALLED.parent.parent / "assets") / "checkpoints"
"""Folder of the weights that come with the project, one folder a model family: in an installed package or beside."""


def find_folder(location: str | Path, revision: str | None = None) -> Path:
    """The local folder of a location: a folder, the name of a bundled family, or a hub id, which is downloaded.

    Raises ValueError if it is none of them.
    """
    for folder in (Path(location), BUNDLED / str(location)):
        if folder.is_dir():
            return folder
    try:
        patterns = ["*.json", "*.safetensors"]
        return Path(snapshot_download(str(location), revision=revision, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"No weights at {str(location)!r}: it is no folder here, no bundled model, and could not be had from the "
            f"hub ({type(error).__name__}). Check the name, or the network, or download the folder first."
        ) from error


def find_restorer_folder(restorer: str, weights: str | Path) -> Path:
    """The folder of one restorer: within `weights`, which holds one a restorer, or that folder itself."""
    find_restorer(restorer)
    folder = find_folder(weights)
    if (folder / restorer / "model_index.json").is_file():
        return folder / restorer
    if (folder / "model_index.json").is_file():
        return folder
    raise ValueError(
        f"{folder} has no weights of {restorer}: expected {restorer}/model_index.json in it. "
        f"Train them (docs/training.md), or pass another folder or hub id with --weights."
    )


def load_autoencoder(folder: str | Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """An autoencoder from a folder or hub id, of the class that its config names."""
    place = find_folder(folder)
    config = place / "config.json"
    if not config.is_file():
        raise ValueError(f"{place} has no config.json: it is no autoencoder folder.")
    classes = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}
    name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    if name not in classes:
        raise ValueError(f"{config} names the class {name!r}; expected one of {', '.join(classes)}.")
    autoencoder: Autoencoder = classes[name].from_pretrained(place, dtype=dtype, use_safetensors=True)
    return autoencoder

"""Pixel teachers: restoration networks whose pictures a student learns from.

A teacher reads the degraded picture, enlarged or not, and gives a picture of the enlarged size. It needs no truth.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gendrpix.baselines.find import formats, open_network
from gendrpix.baselines.ncnn_files import weights_beside
from gendrpix.errors import PictureError
from gendrpix.image.read import open_picture
from gendrpix.restore.pipelines import GenDRPipeline
from training.data.sample import as_bytes

INDEX_FILE = "model_index.json"
"""What a folder of a pipeline's weights holds and a folder of pictures does not."""


class PixelTeacher(Protocol):
    """A restoration network that gives a picture."""

    digest: str
    """Hexadecimal SHA-256 of its weights, or of what else its pictures depend on."""

    def __call__(self, small: Tensor, x: Tensor) -> Tensor:
        """(B, 3, h, w), the degraded pictures, and (B, 3, s h, s w), the same enlarged => (B, 3, s h, s w).

        All float in [-1, 1]. Raises ValueError where the teacher enlarges by another factor than s.
        """
        ...


class NetworkTeacher:
    """A network from a file of any format of `gendrpix.baselines.find`."""

    def __init__(self, file: Path, device: torch.device) -> None:
        """Load it. Raises ValueError for a file that no reader understands."""
        self.name = file.name
        with (weights_beside(file) if file.suffix == ".param" else file).open("rb") as weights:
            self.digest = hashlib.file_digest(weights, "sha256").hexdigest()
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._run = open_network(file, device, dtype)

    def __call__(self, small: Tensor, x: Tensor) -> Tensor:
        """See `PixelTeacher`."""
        y = torch.cat([self._run(one[None]) for one in small]).to(x.device)
        if y.shape != x.shape:
            raise ValueError(
                f"{self.name} makes {y.shape[-1]} x {y.shape[-2]} pixels of {small.shape[-1]} x {small.shape[-2]}, and "
                f"the samples have {x.shape[-1]} x {x.shape[-2]}; pass a network that enlarges by --data.scale."
            )
        return y


class GenDRTeacher:
    """A GenDR with its autoencoder."""

    def __init__(self, folder: str, device: torch.device) -> None:
        """Load it. Raises ValueError where the folder holds no GenDR."""
        self._pipeline = GenDRPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
        self.digest = weights_hash(self._pipeline)

    @torch.inference_mode()
    def __call__(self, small: Tensor, x: Tensor) -> Tensor:
        """See `PixelTeacher`."""
        y: Tensor = self._pipeline.restore(x)
        return y.float().clamp(-1, 1)


class FolderTeacher:
    """Finished outputs: PNG files named by the SHA-256 of the degraded picture (`digest_picture`).

    `python -m training targets --inputs FOLDER` writes the degraded pictures under these names, for a network that
    runs elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        """Look at the folder. Raises ValueError where it holds no PNG."""
        self._files = {file.stem: file for file in sorted(folder.glob("*.png"))}
        if not self._files:
            raise ValueError(f"{folder} holds no finished outputs; expected PNG files named by `training targets`.")
        self._folder = folder
        told = "\n".join(f"{name} {file.stat().st_size}" for name, file in self._files.items())
        self.digest = hashlib.sha256(told.encode()).hexdigest()

    def __call__(self, small: Tensor, x: Tensor) -> Tensor:
        """See `PixelTeacher`."""
        return torch.cat([self._read(digest_picture(one)) for one in small]).to(x.device)

    def _read(self, name: str) -> Tensor:
        if name not in self._files:
            raise ValueError(f"{self._folder} lacks {name}.png; write the inputs again and restore all of them.")
        try:
            return open_picture(self._files[name]).color
        except (OSError, PictureError) as error:
            raise ValueError(f"{self._files[name]} cannot be read ({error}).") from error


def digest_picture(picture: Tensor) -> str:
    """The first 32 digits of the SHA-256 over the 8-bit levels of (3, h, w) in [-1, 1]."""
    return hashlib.sha256(as_bytes(picture.float().cpu()).numpy().tobytes()).hexdigest()[:32]


def open_pixel_teacher(place: str, device: torch.device) -> PixelTeacher:
    """The teacher in a file or folder, by what it holds. Raises ValueError where it is none of the four kinds."""
    path = Path(place)
    if path.suffix.lower() in formats():
        return NetworkTeacher(path, device)
    if path.is_dir() and not (path / INDEX_FILE).is_file():
        return FolderTeacher(path)
    return GenDRTeacher(place, device)


def weights_hash(teacher: GenDRPipeline) -> str:
    """SHA-256 over the names and values of a teacher's UNet, autoencoder and prompt embeddings."""
    digest = hashlib.sha256()
    for part in (teacher.unet.state_dict(), teacher.vae.state_dict(), {"prompts": teacher.prompts}):
        for name, value in sorted(part.items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

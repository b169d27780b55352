"""One protocol for whatever restores a picture, and networks from files behind it.

A comparison runs every restorer through this protocol, so that time, memory and scores of all of them come from the
same code.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gendrpix.image.color_fix import correct_color
from gendrpix.image.picture import Picture
from gendrpix.image.resize import check_output_size, output_size, resize
from gendrpix.models.tiling import restore_tiled
from gendrpix.settings.restoration import CompareSettings

TILE_PX = 256
"""Side of the tiles, in pixels of the input, for networks that allow tiles: bounds the memory of large pictures."""
TILE_OVERLAP_PX = 32
"""Input pixels that neighbouring tiles share."""


class Restoration(NamedTuple):
    """A restored picture and what a user should know about it."""

    restored: Tensor
    """(1, 3, H, W) float in [-1, 1] at the output size."""
    notes: tuple[str, ...] = ()
    branches: tuple[Tensor, Tensor] | None = None
    """The two guided branches before the mix, (1, 3, H, W) each, where there are any."""


class ImageRestorer(Protocol):
    """Anything that restores and enlarges one picture."""

    name: str
    """Short name, used in file names and on the command line."""
    label: str
    """Name that users see."""
    device: torch.device
    dtype: torch.dtype
    native_scale: int
    """How many times the network itself enlarges."""
    resident_bytes: int
    """Bytes of the weights, which are in memory before a run starts."""

    @property
    def licence(self) -> str:
        """Licence of the weights, or words that say that it is not stated."""
        ...

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the weights."""
        ...

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """The picture as the network reads it: (1, 3, h, w) in [-1, 1], on its device and in its dtype."""
        ...

    def restore(self, pixels: Tensor, settings: CompareSettings) -> Restoration:
        """Restore what `prepare` gave. Raises ValueError where the network cannot run on it."""
        ...


class Network(Protocol):
    """A network that was loaded from a file: RGB in, RGB out, enlarged by a whole factor."""

    scale: int
    """How many times it enlarges, 1 to 8."""
    architecture: str
    """Name of its kind."""
    licence: str
    """What its format says of the licence; empty where it says nothing."""
    device: torch.device
    dtype: torch.dtype
    resident_bytes: int
    tile_px: int | None
    """Side of the tiles in input pixels, a multiple of 8; None where the whole picture must be seen at once."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """(1, 3, h, w) float in [-1, 1] => (1, 3, s h, s w) float32 in [-1, 1], clamped; s is `scale`."""
        ...


class NetworkRestorer:
    """A network from a file as an `ImageRestorer`.

    The network always runs at its own scale. Another output size is reached by resizing its result (bicubic,
    antialiased), which a note says.
    """

    def __init__(self, network: Network, *, name: str, label: str, licence: str, digest: str) -> None:
        self.network = network
        self.name, self.label, self.licence, self.digest = name, label, licence, digest
        self.device, self.dtype, self.native_scale = network.device, network.dtype, network.scale
        self.resident_bytes = network.resident_bytes

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """See `ImageRestorer`. Raises ValueError for a result beyond the limits of size."""
        check_output_size(*output_size(picture.height, picture.width, max(scale, self.native_scale)))
        return picture.color.to(self.device)

    @torch.inference_mode()
    def restore(self, pixels: Tensor, settings: CompareSettings) -> Restoration:
        """See `ImageRestorer`."""
        height, width = pixels.shape[-2:]
        notes = []
        tile = self.network.tile_px
        restored = run_in_tiles(self.network, pixels)
        if tile is not None and max(height, width) > tile:
            notes.append(f"{self.label} ran in tiles of {tile} input pixels.")
        wanted = output_size(height, width, settings.scale)
        if restored.shape[-2:] != wanted:
            notes.append(
                f"{self.label} enlarges {self.native_scale} times; its result was resized to {settings.scale:g} times."
            )
            restored = resize(restored, *wanted)
        if settings.color_fix != "none":
            restored = correct_color(restored, resize(pixels.float(), *wanted), settings.color_fix)
        return Restoration(restored, tuple(notes))


def run_in_tiles(network: Network, pixels: Tensor) -> Tensor:
    """(1, 3, h, w) in [-1, 1] => (1, 3, s h, s w): whole, or in blended tiles where the picture is larger than one."""
    if network.tile_px is None or max(pixels.shape[-2:]) <= network.tile_px:
        return network(pixels)

    def on_input_grid(tile: Tensor) -> Tensor:
        return F.pixel_unshuffle(network(tile), network.scale)

    tiled = restore_tiled(pixels, on_input_grid, network.tile_px, min(TILE_OVERLAP_PX, network.tile_px // 2))
    return F.pixel_shuffle(tiled, network.scale)


def check_scale(name: str, given: tuple[int, int], made: tuple[int, ...]) -> int:
    """How many times `made` (..., 3, H, W) is as large as `given` (height, width): a whole factor from 1 to 8.

    Raises ValueError for three other channels, another factor, or one that differs between the sides.
    """
    if len(made) != 4 or made[:2] != (1, 3):
        raise ValueError(f"{name} makes an array of shape {made}; expected one RGB picture, (1, 3, height, width).")
    scale = made[2] // given[0]
    if not 1 <= scale <= 8 or made[2:] != (scale * given[0], scale * given[1]):
        raise ValueError(
            f"{name} makes {made[3]} x {made[2]} pixels of {given[1]} x {given[0]}; "
            "expected a whole number of times as many, 1 to 8."
        )
    return scale

"""Restoring a picture tile by tile, so that memory depends on the tile and not on the picture.

Tiles begin at multiples of 8 pixels and are multiples of 8 wide, but for the last, which ends where the picture does:
the 8-pixel grid, and with it PadCFG's offsets, lies in every tile as in the whole picture. Neighbours overlap. Of the
overlap the outer quarters, which have seen least of their surroundings, are thrown away, and the middle half is
blended smoothly; the weights of all tiles add up to 1 everywhere.

A restorer is one callable here, pixels (B, 3, h, w) => (B, C, h, w), so that all three, guided or not, are treated
alike. Not everything in a UNet is local (normalisation over the picture, attention beyond its windows), so that tiles
are close to the whole picture's result, not equal to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gendrpix.specs import OVERLAP_PX, PATCH

Predictor = Callable[[Tensor], Tensor]
"""Pixels (B, 3, h, w) => (B, C, h, w) of the same sides."""
RowReader = Callable[[int, int], Tensor]
"""(top, bottom) => these rows of the picture, (B, 3, bottom - top, W)."""


class Span(NamedTuple):
    """Where a tile lies along one axis, in pixels: `start <= position < stop`."""

    start: int
    stop: int


def plan_spans(size_px: int, tile_px: int, overlap_px: int = OVERLAP_PX) -> tuple[Span, ...]:
    """The tiles along an axis of `size_px` pixels: as few as can be, evenly spread; one if the axis fits.

    Every start is a multiple of 8, neighbours share at least `overlap_px`, and the last stops at `size_px`.
    """
    if size_px <= tile_px:
        return (Span(0, size_px),)
    size, tile, overlap = (-(-pixels // PATCH) for pixels in (size_px, tile_px, overlap_px))  # in grid positions
    count = -(-(size - overlap) // (tile - overlap))
    starts = [index * (size - tile) // (count - 1) * PATCH for index in range(count)]
    return tuple(Span(start, min(start + tile_px, size_px)) for start in starts)


def blend_weights(spans: Sequence[Span], overlap_px: int = OVERLAP_PX) -> tuple[Tensor, ...]:
    """For each span its weights, (stop - start,) float32 in [0, 1]; at every position they add up to 1.

    Between neighbours a smooth step of half the overlap passes from one to the other, in the middle of what they
    share. A span's weight is its own step less the next one's, so that the sum telescopes to 1.
    """
    ramp = overlap_px / 2
    borders = [(left.stop + right.start) / 2 for left, right in pairwise(spans)]

    def step(positions: Tensor, border: float) -> Tensor:
        rise = ((positions + 0.5 - border) / ramp + 0.5).clamp(0, 1)
        return rise * rise * (3 - 2 * rise)

    weights = []
    for index, span in enumerate(spans):
        positions = torch.arange(span.start, span.stop, dtype=torch.float64)
        own = step(positions, borders[index - 1]) if index else torch.ones_like(positions)
        following = step(positions, borders[index]) if index < len(borders) else torch.zeros_like(positions)
        weights.append((own - following).float())
    return tuple(weights)


def restore_tiled(
    pixels: Tensor,
    predict: Predictor,
    tile_px: int | None,
    overlap_px: int = OVERLAP_PX,
    *,
    read_px: int = 1,
    made_px: int = 1,
) -> Tensor:
    """`predict` over tiles of `pixels`, (B, 3, H, W) => (B, C, H, W), blended; C and the dtype are the prediction's.

    A tile as large as the picture, or None, is `predict(pixels)` itself. read_px, made_px: where `predict` goes from
    one grid to another (an autoencoder), how many pixels a side one position that it reads has, and one that it gives;
    tiles and overlap are counted in pixels all the same.
    """
    height, width = (side * read_px for side in pixels.shape[-2:])
    if tile_px is None or max(height, width) <= tile_px:
        return predict(pixels)
    restored: Tensor | None = None
    top = 0

    def read(first: int, last: int) -> Tensor:
        return pixels[..., first // read_px : last // read_px, :]

    for band in restore_bands(read, (height, width), predict, tile_px, overlap_px, read_px=read_px, made_px=made_px):
        if restored is None:
            restored = band.new_empty(*band.shape[:-2], height // made_px, width // made_px)
        restored[..., top : top + band.shape[-2], :] = band
        top += band.shape[-2]
    assert restored is not None and top == height // made_px
    return restored


def restore_bands(
    read: RowReader,
    size: tuple[int, int],
    predict: Predictor,
    tile_px: int,
    overlap_px: int = OVERLAP_PX,
    *,
    read_px: int = 1,
    made_px: int = 1,
) -> Iterator[Tensor]:
    """The bands of `restore_tiled`'s result from top to bottom, (B, C, rows, W) each, as soon as they are final.

    size: (height, width) of the picture in pixels; `read` takes pixels. Only one row of tiles is held at a time, its
    pixels and its result.
    """
    rows, columns = (plan_spans(side, tile_px, overlap_px) for side in size)
    row_weights, column_weights = (
        [weight[made_px // 2 :: made_px] for weight in blend_weights(spans, overlap_px)] for spans in (rows, columns)
    )
    places = [slice(column.start // read_px, column.stop // read_px) for column in columns]
    carried: Tensor | None = None  # what earlier rows of tiles have given to rows that are not final
    for index, row in enumerate(rows):
        source = read(*row)
        tiles = map(predict, (source[..., place] for place in places))
        strip, dtype = _blend_row(tiles, [column.start // made_px for column in columns], column_weights)
        strip *= row_weights[index].to(strip.device)[:, None]
        if carried is not None:
            strip[..., : carried.shape[-2], :] += carried
        final = ((rows[index + 1].start if index + 1 < len(rows) else row.stop) - row.start) // made_px
        yield strip[..., :final, :].to(dtype)
        carried = strip[..., final:, :].clone()


def _blend_row(tiles: Iterable[Tensor], starts: Sequence[int], weights: Sequence[Tensor]) -> tuple[Tensor, torch.dtype]:
    """One row of tiles, (B, C, h, w) each, from these columns on => (B, C, h, W) float32, and the tiles' dtype."""
    strip: Tensor | None = None
    for tile, start, weight in zip(tiles, starts, weights, strict=True):
        if strip is None:
            wide = starts[-1] + len(weights[-1])
            strip = torch.zeros(*tile.shape[:-1], wide, dtype=torch.float32, device=tile.device)
        strip[..., start : start + len(weight)] += tile * weight.to(tile.device)
    assert strip is not None
    return strip, tile.dtype

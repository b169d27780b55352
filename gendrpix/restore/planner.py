"""Fits a restoration into the memory there is: both branches as one batch, one after the other, or tiles.

The plans are tried in that order, which is the order of speed; the first that is predicted to fit is taken, and where
memory runs out all the same, the next smaller one.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from gendrpix.models.tiling import restore_tiled
from gendrpix.restore.guidance import Branches, mix
from gendrpix.restore.memory import available_bytes, fixed_bytes, pass_bytes, tight_memory, trace_peak_memory
from gendrpix.restore.network import OneStepNetwork
from gendrpix.settings.checks import checked_tile
from gendrpix.specs import MIN_TILE_PX, PATCH, TileChoice

T = TypeVar("T")
TILES_PX = (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, MIN_TILE_PX)
"""Sides that are tried, largest first."""
VAE_TILES_PX = (2048, 1024, 512)
"""The same for the autoencoder alone, which takes the most memory; those that cut the longer side in four or fewer."""
MARGIN = 1.15
"""A plan fits if its prediction times this is free: predictions are within 15%."""
ROOM = 3
"""Where this many times the need is free, freed memory is not given back at once (`memory.tight_memory`)."""
AMPLE_BYTES_PER_PX = 8192
"""More than any restorer here takes: where even this is free, nothing needs to be predicted."""
FLOAT_BYTES = 4


class PlanError(ValueError):
    """Nothing fits; one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way of restoring a picture."""

    batched: bool
    """Whether PadCFG's two branches run as one batch."""
    tile_px: int | None
    """Side of the tiles, a multiple of 8; None for the whole picture at once."""
    vae_tile_px: int | None = None
    """Side of the autoencoder's tiles where all else sees the whole picture; None for none."""
    predicted_bytes: int
    """Peak above the loaded weights and the decoded picture."""
    explanation: str
    """What was chosen and why, in plain sentences."""

    def fits(self, budget_bytes: int) -> bool:
        """Whether the prediction, with its margin of error, is within the budget."""
        return self.predicted_bytes * MARGIN <= budget_bytes

    def leaves_room(self, budget_bytes: int) -> bool:
        """Whether so much is free that freed memory can be left to the C library, which is faster."""
        return self.predicted_bytes * ROOM <= budget_bytes


class Fitted(NamedTuple):
    """A result that fitted."""

    restored: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    branches: Branches | None
    """PadCFG's branches, if they were to be kept."""
    notes: tuple[str, ...]
    """What a user should know: tiles, memory that ran out. Empty where all went as asked."""


def predict_peak(
    network: OneStepNetwork,
    height: int,
    width: int,
    *,
    guided: bool = False,
    batched: bool = True,
    tile_px: int | None = None,
    vae_tile_px: int | None = None,
    num_pictures: int = 1,
    streamed: bool = False,
) -> int:
    """Peak bytes of one restoration to `height` x `width` pixels, above the loaded weights and the decoded picture.

    guided: PadCFG, with both branches kept. streamed: the result goes to disk band by band
    (`gendrpix.restore.streaming`).
    """
    if vae_tile_px is not None:
        whole = trace_peak_memory(network, height, width, vae_tile_px=vae_tile_px)
        return whole * num_pictures + fixed_bytes(network)
    if tile_px is None or max(height, width) <= tile_px:
        whole_pass = pass_bytes(network, padded_pixels(height, width, guided), guided=guided, batched=batched)
        return int(whole_pass * num_pictures) + fixed_bytes(network)
    pixels = padded_pixels(min(tile_px, height), min(tile_px, width), guided)
    tile = pass_bytes(network, pixels, guided=guided, batched=batched)
    channels = 6 if guided else 3
    strips = 3 * channels * FLOAT_BYTES * min(tile_px, height) * width  # being blended, carried over, read or given out
    whole = 0 if streamed else (3 + channels) * network.unet.dtype.itemsize * height * width
    return int((tile + strips + whole) * num_pictures) + fixed_bytes(network)


def padded_pixels(height: int, width: int, guided: bool) -> int:
    """Pixels that the network sees: sides rounded up to multiples of 8, and PadCFG's 8 more."""
    sides = (math.ceil(side / PATCH) * PATCH + (PATCH if guided else 0) for side in (height, width))
    return math.prod(sides)


def list_plans(
    network: OneStepNetwork,
    height: int,
    width: int,
    *,
    guided: bool = False,
    batched: bool = True,
    tile: TileChoice = "auto",
    num_pictures: int = 1,
    streamed: bool = False,
) -> Iterator[Plan]:
    """The plans that the settings allow, fastest first. Raises ValueError for an impossible tile."""
    longer = max(height, width)
    if isinstance(tile, int):
        checked_tile(tile)
        sides: list[int | None] = [tile, *(side for side in TILES_PX if side < tile)]
    else:
        smaller = [side for side in TILES_PX if side < longer] if tile == "auto" else []
        sides = [*([] if streamed else [None]), *smaller]
    for side in sides or [MIN_TILE_PX]:
        both = (True, False) if guided and batched and side in (None, tile) else (batched and not guided,)
        inner = [vae_tile for vae_tile in VAE_TILES_PX if longer / 4 <= vae_tile < longer]
        inside = [None, *inner] if side is None and tile == "auto" and network.vae is not None else [None]
        for together, vae_tile in product(both, inside):
            how: dict[str, Any] = {"batched": together, "tile_px": side, "vae_tile_px": vae_tile}
            predicted = predict_peak(
                network, height, width, guided=guided, num_pictures=num_pictures, streamed=streamed, **how
            )
            plan = Plan(predicted_bytes=predicted, explanation="", **how)
            yield replace(plan, explanation=f"{describe(guided, plan)}: about {in_words(predicted)}.")


def choose_plan(
    network: OneStepNetwork, height: int, width: int, *, budget_bytes: int | None = None, **settings: Any
) -> Plan:
    """The first of `list_plans(network, height, width, **settings)` that fits the budget: by default, what is free.

    Raises PlanError where none fits.
    """
    budget = available_bytes(network.device) if budget_bytes is None else budget_bytes
    plans = list(list_plans(network, height, width, **settings))
    if settings.get("streamed"):
        plans.sort(key=lambda plan: not plan.leaves_room(budget))  # tiles in any case: room is worth more than size
    return _first_that_fits(plans, budget)


def _first_that_fits(plans: Sequence[Plan], budget_bytes: int) -> Plan:
    for plan in plans:
        if plan.fits(budget_bytes):
            return plan
    least = min(plan.predicted_bytes for plan in plans)
    raise PlanError(
        f"This needs about {in_words(least)} of memory at least and {in_words(budget_bytes)} are free; choose a "
        "smaller scale, smaller tiles, or close other programs."
    )


def describe(guided: bool, plan: Plan) -> str:
    """The plan as the beginning of a sentence."""
    where = "The whole picture at once" if plan.tile_px is None else f"Tiles of {plan.tile_px} pixels"
    if plan.vae_tile_px is not None:
        where += f", its autoencoder in tiles of {plan.vae_tile_px}"
    return where + (f", both branches {'as one batch' if plan.batched else 'one after the other'}" if guided else "")


def in_words(num_bytes: int) -> str:
    """Bytes for a reader."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


# Doing it ----------------------------------------------------------------------------------------------------------


def restore_within(
    network: OneStepNetwork,
    pixels: Tensor,
    guidance: float | None,
    *,
    tile: TileChoice = "auto",
    batched: bool = True,
    keep_branches: bool = False,
    budget_bytes: int | None = None,
    **how: Any,
) -> Fitted:
    """`network.restore_guided(pixels, guidance, **how)` by the first plan that fits, and by smaller ones if need be.

    pixels: (B, 3, H, W) in [-1, 1] at the output size. budget_bytes: by default, what the device has free. A picture
    that fits as asked is restored as asked, with nothing predicted where there is memory in plenty.
    Raises PlanError where nothing fits, or memory runs out with the smallest plan.
    """
    num_pictures, _, height, width = pixels.shape
    guided = guidance is not None
    budget = available_bytes(network.device) if budget_bytes is None else budget_bytes

    def run(plan: Plan) -> tuple[Tensor, Branches | None]:
        return run_plan(network, pixels, guidance, plan, keep_branches, how)

    def run_tight(plan: Plan) -> tuple[Tensor, Branches | None]:
        with tight_memory(network.device):
            return run(plan)

    def smaller() -> list[Plan]:
        return list(
            list_plans(network, height, width, guided=guided, batched=batched, tile=tile, num_pictures=num_pictures)
        )

    asked = Plan(batched=batched, tile_px=None, predicted_bytes=0, explanation="As asked.")
    if not isinstance(tile, int) and pixels.numel() // 3 * AMPLE_BYTES_PER_PX <= budget:
        return _try_each(run, run_tight, asked, smaller, guided, [])
    plans = smaller()
    chosen = _first_that_fits(plans, budget)
    notes = [] if chosen is plans[0] else [_why_not(plans[0], chosen, budget)]
    first = run if chosen.leaves_room(budget) else run_tight
    return _try_each(first, run_tight, chosen, lambda: plans, guided, notes)


def _why_not(asked: Plan, chosen: Plan, budget_bytes: int) -> str:
    return f"{asked.explanation} {in_words(budget_bytes)} are free. Done instead: {chosen.explanation}"


def _try_each(
    run: Callable[[Plan], tuple[Tensor, Branches | None]],
    run_smaller: Callable[[Plan], tuple[Tensor, Branches | None]],
    plan: Plan,
    plans: Callable[[], Sequence[Plan]],
    guided: bool,
    notes: list[str],
) -> Fitted:
    """Run the plan; where memory runs out, release what it held and run the next smaller one, by `run_smaller`."""
    while True:
        try:
            restored, branches = run(plan)
            return Fitted(restored, branches, tuple(notes))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release_memory()  # after the error is gone, and with it the frames that held the tensors
        following = next_smaller(plans(), plan, guided)
        if following is None:
            raise PlanError(
                f"Memory ran out ({describe(guided, plan).lower()}) and nothing smaller is "
                "left to try; choose a smaller scale or allow smaller tiles."
            )
        notes.append(f"{describe(guided, plan)}: memory ran out. Done instead: {following.explanation}")
        run, plan = run_smaller, following


def next_smaller(plans: Sequence[Plan], plan: Plan, guided: bool) -> Plan | None:
    """The plan after `plan`, or None after the last."""
    for index, one in enumerate(plans):
        same_tiles = (one.tile_px, one.vae_tile_px) == (plan.tile_px, plan.vae_tile_px)
        if same_tiles and (one.batched == plan.batched or not guided):
            return plans[index + 1] if index + 1 < len(plans) else None
    return plans[0] if plans else None


def run_plan(
    network: OneStepNetwork,
    pixels: Tensor,
    guidance: float | None,
    plan: Plan,
    keep_branches: bool,
    how: dict[str, Any],
) -> tuple[Tensor, Branches | None]:
    """Restore in the plan's way: the result, clamped, and PadCFG's branches if they were to be kept."""
    if plan.tile_px is None or max(pixels.shape[-2:]) <= plan.tile_px:
        with network.vae_tiles(plan.vae_tile_px):
            restored, branches = network.restore_guided(pixels, guidance, batched=plan.batched, **how)
        return restored, branches if keep_branches else None

    if not keep_branches or guidance is None:

        def predict(tile: Tensor) -> Tensor:
            return network.restore_guided(tile, guidance, batched=plan.batched, **how)[0]

        return restore_tiled(pixels, predict, plan.tile_px), None

    def predict_both(tile: Tensor) -> Tensor:  # (B, 3, h, w) => (B, 6, h, w)
        return torch.cat(network.restore_branches(tile, batched=plan.batched, **how), dim=1)

    branches = Branches(*restore_tiled(pixels, predict_both, plan.tile_px).split(3, dim=1))
    return mix(branches, guidance).clamp(-1, 1), branches


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is how PyTorch or Python says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def release_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

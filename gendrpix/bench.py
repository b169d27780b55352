"""How long the restorers take: every restorer, size and option, timed in one run on one device.

A case is timed from the decoded picture, a quarter of the output's sides, to the restored pixels. The content is
noise: time and memory depend neither on it nor on the weights, so random ones do.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from gendrpix.compare import CompareSettings, order_choices, restorer_of, weight_bytes
from gendrpix.cost import count
from gendrpix.devices import pick_dtype
from gendrpix.errors import sentence
from gendrpix.feedforward import split_feed_forward
from gendrpix.images import Picture, check_output_size
from gendrpix.machine import describe_environment, measure_ceiling
from gendrpix.measure import Clock, Peak, measure_peak, timed
from gendrpix.memory import available_bytes
from gendrpix.networks import build_autoencoder, build_unet, initial_prompts
from gendrpix.options import Bench
from gendrpix.peers import PEER_SCALE, PEERS, build_peer, count_peer
from gendrpix.pipelines import PIPELINES, RestorerPipeline, load_restorer
from gendrpix.planner import AMPLE_BYTES_PER_PX, MARGIN, in_words, predict_peak
from gendrpix.specs import (
    CHOICE_LABELS,
    COMPARED_OMEGA,
    DEFAULT_SPEEDUPS,
    MODEL_SPECS,
    PATCH,
    Speedup,
    find_model,
    find_restorer,
)
from gendrpix.speedups import speed_up

SCALE = float(PEER_SCALE)
Quantity = Literal["seconds", "bytes"]
"""What grows with the pixels: time, or peak memory."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time."""

    name: str
    """A key of `specs.CHOICE_LABELS` or `peers.PEERS`."""
    width: int
    """Of the output, in pixels."""
    height: int
    dtype: str
    attention: str | None = None
    """None for peers."""
    padcfg: str | None = None
    """"batched" or "sequential"; None without PadCFG."""

    @property
    def label(self) -> str:
        """What readers see."""
        return PEERS[self.name].label if self.name in PEERS else CHOICE_LABELS[self.name]

    @property
    def series(self) -> Case:
        """The case without its size: what grows with the pixels."""
        return replace(self, width=0, height=0)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A case and its figures, or the reason why there are none."""

    case: Case
    all_seconds: tuple[float, ...] = ()
    peak: Peak | None = None
    parameters: int | None = None
    macs: int | None = None
    """Multiply-adds, attention's products included."""
    attention_macs: int | None = None
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """The median."""
        return statistics.median(self.all_seconds) if self.all_seconds else None

    @property
    def flops(self) -> float | None:
        """Achieved FLOP/s: two a multiply-add."""
        return 2 * self.macs / self.seconds if self.macs and self.seconds else None

    @property
    def megapixels_per_s(self) -> float | None:
        """Output megapixels a second."""
        return self.case.width * self.case.height / 1e6 / self.seconds if self.seconds else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run measures."""

    cases: tuple[Case, ...]
    weights: str
    """A bundled family, a folder or a hub id; the family's name where they are random."""
    random_weights: bool
    warmup: int
    repeats: int
    speedups: tuple[Speedup, ...] = DEFAULT_SPEEDUPS
    clock: Clock = "wall"
    """What the seconds are measured by; "cpu" is the processor time of all threads."""


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """All figures of one run."""

    plan: Plan
    environment: dict[str, Any]
    ceilings: dict[str, float]
    """dtype => FLOP/s of a matrix product in the same run."""
    measured: tuple[Measured, ...]

    def ratio(self, one: Measured) -> float | None:
        """How many times as fast as GenDR at the same size, dtype and attention; peers: any attention of GenDR's."""
        case = one.case
        for other in self.measured:
            same = (other.case.width, other.case.height, other.case.dtype) == (case.width, case.height, case.dtype)
            if other.case.name == "gendr" and same and case.attention in (None, other.case.attention):
                return other.seconds / one.seconds if other.seconds and one.seconds else None
        return None

    def share(self, one: Measured) -> float | None:
        """Achieved FLOP/s as a share of the ceiling."""
        ceiling = self.ceilings.get(one.case.dtype)
        return one.flops / ceiling if one.flops and ceiling else None

    def points(self, quantity: Quantity = "seconds") -> dict[Case, list[tuple[int, float]]]:
        """Series => (pixels, seconds or peak bytes) of each of its cases that was measured."""
        points: dict[Case, list[tuple[int, float]]] = {}
        for one in self.measured:
            value = one.seconds if quantity == "seconds" else one.peak.bytes if one.peak else None
            if value:
                points.setdefault(one.case.series, []).append((one.case.width * one.case.height, value))
        return points

    def exponents(self, quantity: Quantity = "seconds") -> dict[Case, float]:
        """Series => b of the least-squares fit `value = a * pixels ** b`, where there are two sizes or more."""
        return {
            series: fit_exponent(*zip(*pairs, strict=True))
            for series, pairs in self.points(quantity).items()
            if len({pixels for pixels, _ in pairs}) > 1
        }


def fit_exponent(pixels: Sequence[int], values: Sequence[float]) -> float:
    """b of `value = a * pixels ** b`, by least squares of the logarithms."""
    slope, _ = np.polyfit([math.log(n) for n in pixels], [math.log(value) for value in values], 1)
    return float(slope)


def series_label(case: Case) -> str:
    """A case without its size: "GenDR-Pix, float32, auto, batched"."""
    return ", ".join(part for part in (case.label, case.dtype, case.attention, case.padcfg) if part)


# What is measured --------------------------------------------------------------------------------------------------


def plan_bench(options: Bench) -> Plan:
    """The cases, GenDR first, peers last. Raises ValueError for options that make no sense."""
    if options.model is not None and not options.random_weights:
        raise ValueError("--model says what --random-weights builds; give both, or --weights.")
    if options.weights is not None and options.random_weights:
        raise ValueError("--weights and --random-weights exclude each other; give one of them.")
    if options.warmup < 0 or options.repeats < 1:
        raise ValueError(f"--warmup is {options.warmup}, --repeats {options.repeats}; expected at least 0 and 1.")
    sizes = [parse_size(text) for text in options.sizes]
    named = order_choices(options.restorers, CompareSettings())
    cases = []
    for dtype in dict.fromkeys(options.dtypes):
        for name in named:
            for kind in dict.fromkeys(options.attention):
                for branches in dict.fromkeys(options.padcfg) if name == "gendr-pix" else (None,):
                    cases += [
                        Case(name=name, width=width, height=height, dtype=dtype, attention=kind, padcfg=branches)
                        for width, height in sizes
                    ]
        for name in dict.fromkeys(options.peers):
            cases += [Case(name=name, width=width, height=height, dtype=dtype) for width, height in sizes]
    if not cases or not sizes:
        raise ValueError("There is nothing to time; name at least one restorer, size, attention and dtype.")
    return Plan(
        cases=tuple(cases),
        weights=(options.model or "mini") if options.random_weights else (options.weights or "mini"),
        random_weights=options.random_weights,
        warmup=options.warmup,
        repeats=options.repeats,
        speedups=options.speedups,
        clock=options.clock,
    )


def parse_size(text: str) -> tuple[int, int]:
    """ "512" or "3840x2160" => (width, height). Raises ValueError unless both are multiples of 8."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < PATCH or any(side % PATCH for side in sides):
        raise ValueError(f"The size {text!r} is not usable; give 512 or 3840x2160, sides in multiples of {PATCH}.")
    check_output_size(sides[-1], sides[0])
    return sides[0], sides[-1]


def random_restorer(name: str, model: str, device: torch.device, dtype: torch.dtype) -> RestorerPipeline:
    """A restorer of a family's geometry with fresh random weights. Its pictures mean nothing."""
    spec, role = find_model(model), find_restorer(name)
    torch.manual_seed(0)
    with torch.device(device):
        unet = build_unet(spec, *role.channels(spec))
        vae = build_autoencoder(spec) if "latent" in (role.reads, role.writes) else None
    pipeline = PIPELINES[name](
        unet=unet.eval(),
        vae=None if vae is None else vae.eval(),
        prompts=initial_prompts(spec),
        form=spec.forms[name],
        timestep=spec.timestep,
        model=spec.name,
    )
    pipeline.set_progress_bar_config(disable=True)
    moved: RestorerPipeline = pipeline.to(device, dtype)
    return moved


# Measuring ---------------------------------------------------------------------------------------------------------


def run_bench(plan: Plan, device: torch.device, say: Callable[[str], None]) -> BenchResult:
    """Measure every case in order; one that fails keeps its reason. `say` hears of each as it ends."""
    measured = []
    for number, one in enumerate(measure_all(plan, device), start=1):
        measured.append(one)
        figure = one.reason if one.seconds is None else f"{one.seconds:.3g} s"
        say(f"{number}/{len(plan.cases)} {describe_case(one.case)}: {figure}")
    return gather(plan, device, measured)


def gather(plan: Plan, device: torch.device, measured: Sequence[Measured]) -> BenchResult:
    """The measured cases with what they are read against: the environment, and the ceilings, measured now."""
    dtypes = dict.fromkeys(case.dtype for case in plan.cases)
    ceilings = {name: measure_ceiling(device, pick_dtype(name), plan.clock) for name in dtypes}
    return BenchResult(plan=plan, environment=describe_environment(device), ceilings=ceilings, measured=tuple(measured))


def describe_case(case: Case) -> str:
    """ "GenDR-Pix, 512 x 512, float32, auto, batched"."""
    parts = (case.label, f"{case.width} x {case.height}", case.dtype, case.attention, case.padcfg)
    return ", ".join(part for part in parts if part is not None)


def measure_all(
    plan: Plan, device: torch.device, loaded: Callable[[str], RestorerPipeline] | None = None
) -> Iterator[Measured]:
    """Every case in order, each as it ends. `loaded` gives restorers that are there already, by choice.

    Without it one network is held at a time; it is built again only where the next case is another's.
    """
    held: tuple[str, str] | None = None
    network: Any = None
    for case in plan.cases:
        wanted = (case.name if case.name in PEERS else restorer_of(case.name), case.dtype)
        try:
            if wanted != held:
                held, network = None, None
                _release(device)
                network = build_network(plan, case, device) if loaded is None else loaded(case.name)
                held = wanted
            yield measure_case(plan, case, network, device)
        except Exception as error:  # noqa: BLE001 - one case that does not fit must not end the others
            yield Measured(case=case, reason=sentence(error))


def build_network(plan: Plan, case: Case, device: torch.device) -> RestorerPipeline | torch.nn.Module:
    """The restorer or peer of a case, on the device and in its dtype."""
    dtype = pick_dtype(case.dtype)
    if case.name in PEERS:
        return build_peer(case.name).to(device, dtype)
    name = restorer_of(case.name)
    if plan.random_weights:
        pipeline = random_restorer(name, plan.weights, device, dtype)
        split_feed_forward(pipeline.unet)
        speed_up(pipeline, plan.speedups)
        return pipeline
    return load_restorer(name, plan.weights, device=device, dtype=dtype, speedups=plan.speedups)


def measure_case(plan: Plan, case: Case, network: Any, device: torch.device) -> Measured:
    """Warm up, then time the case and measure its peak memory over all runs.

    Raises ValueError where it would not fit into the memory that is free.
    """
    side = (case.height // PEER_SCALE, case.width // PEER_SCALE)
    color = torch.rand(1, 3, *side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    run, resident, model = _prepare(case, network, Picture(color=color), device)
    _check_room(case, network, device)
    with measure_peak(device, resident_bytes=resident) as peak:
        all_seconds = timed(run, device, warmup=plan.warmup, repeats=plan.repeats, clock=plan.clock).all_seconds
    parameters, macs, attention_macs = _count(replace(case, dtype="", padcfg=None), model)
    return Measured(
        case=case,
        all_seconds=all_seconds,
        peak=peak,
        parameters=parameters,
        macs=macs,
        attention_macs=attention_macs,
    )


def _check_room(case: Case, network: Any, device: torch.device) -> None:
    free = available_bytes(device)
    if case.name in PEERS or case.width * case.height * AMPLE_BYTES_PER_PX <= free:
        return
    guided, batched = case.name == "gendr-pix", case.padcfg == "batched"
    needed = predict_peak(network, case.height, case.width, guided=guided, batched=batched)
    if needed * MARGIN > free:
        raise ValueError(f"It would take about {in_words(needed)}, {in_words(free)} are free; choose a smaller size.")


def _prepare(
    case: Case, network: Any, picture: Picture, device: torch.device
) -> tuple[Callable[[], object], int, str | None]:
    """(the call that is timed, bytes of the weights, the family's name or None for a peer)."""
    if case.name in PEERS:
        pixels = (picture.color + 1) / 2

        @torch.inference_mode()
        def enlarge() -> object:
            return network(pixels.to(device, pick_dtype(case.dtype)))

        return enlarge, sum(parameter.nbytes for parameter in network.parameters()), None
    pipeline: RestorerPipeline = network
    assert case.attention is not None
    if pipeline.attention != case.attention and (pipeline.window_tokens or case.attention != "auto"):
        pipeline.set_attention(case.attention)
    guidance = COMPARED_OMEGA if case.name == "gendr-pix" else None
    how = {} if guidance is None else {"batched": case.padcfg == "batched"}

    def restore() -> object:
        return pipeline.restore_guided(pipeline.prepare(picture, SCALE), guidance, **how)

    return restore, weight_bytes(pipeline), pipeline.config.model


@lru_cache
def _count(case: Case, model: str | None) -> tuple[int | None, int | None, int | None]:
    """(parameters, multiply-adds with attention's products, those of the products), where the geometry is known."""
    if case.name in PEERS:
        return *count_peer(case.name, case.height, case.width), 0
    if model is None or model not in MODEL_SPECS:
        return None, None, None
    guided, kind = case.name == "gendr-pix", case.attention or "full"
    cost = count(model, restorer_of(case.name), case.height, case.width, guided=guided, attention=kind)
    return cost.parameters, cost.total_macs, cost.attention_macs


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

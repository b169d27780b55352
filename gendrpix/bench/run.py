"""How long the restorers take: every restorer, size and option, timed in one run on one device.

A case is timed from the decoded picture, a quarter of the output's sides, to the restored pixels. The content is
noise: time and memory depend neither on it nor on the weights, so random ones do.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from gendrpix.baselines.networks import BASELINE_SCALE, BASELINES, build_baseline, count_baseline
from gendrpix.bench.cases import BenchResult, Case, Measured, Plan, describe_case
from gendrpix.bench.cost import count
from gendrpix.bench.environment import describe_environment, measure_ceiling
from gendrpix.devices import pick_dtype
from gendrpix.errors import sentence
from gendrpix.image.picture import Picture
from gendrpix.metrics.profiling import measure_peak, timed
from gendrpix.models.networks import build_autoencoder, build_unet, initial_prompts, split_feed_forward
from gendrpix.models.speedups import speed_up
from gendrpix.restore.memory import available_bytes, weight_bytes
from gendrpix.restore.pipelines import PIPELINES, RestorerPipeline, load_restorer
from gendrpix.restore.planner import AMPLE_BYTES_PER_PX, MARGIN, in_words, predict_peak
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import (
    DEFAULT_OMEGA,
    MODEL_SPECS,
    find_model,
    find_restorer,
    restorer_of,
)

SCALE = float(BASELINE_SCALE)


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


def measure_all(
    plan: Plan, device: torch.device, loaded: Callable[[str], RestorerPipeline] | None = None
) -> Iterator[Measured]:
    """Every case in order, each as it ends. `loaded` gives restorers that are there already, by choice.

    Without it one network is held at a time; it is built again only where the next case is another's.
    """
    held: tuple[str, str] | None = None
    network: Any = None
    for case in plan.cases:
        wanted = (case.name if case.name in BASELINES else restorer_of(case.name), case.dtype)
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
    if case.name in BASELINES:
        return build_baseline(case.name).to(device, dtype)
    name = restorer_of(case.name)
    if plan.random_weights:
        pipeline = random_restorer(name, plan.weights, device, dtype)
        split_feed_forward(pipeline.unet)
        speed_up(pipeline.unet, pipeline.vae, pipeline.device, plan.speedups)
        return pipeline
    return load_restorer(name, plan.weights, device=device, dtype=dtype, speedups=plan.speedups)


def measure_case(plan: Plan, case: Case, network: Any, device: torch.device) -> Measured:
    """Warm up, then time the case and measure its peak memory over all runs.

    Raises ValueError where it would not fit into the memory that is free.
    """
    side = (case.height // BASELINE_SCALE, case.width // BASELINE_SCALE)
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
    if case.name in BASELINES or case.width * case.height * AMPLE_BYTES_PER_PX <= free:
        return
    guided, batched = case.name == "gendr-pix", case.padcfg == "batched"
    needed = predict_peak(network, case.height, case.width, guided=guided, batched=batched)
    if needed * MARGIN > free:
        raise ValueError(f"It would take about {in_words(needed)}, {in_words(free)} are free; choose a smaller size.")


def _prepare(
    case: Case, network: Any, picture: Picture, device: torch.device
) -> tuple[Callable[[], object], int, str | None]:
    """(the call that is timed, bytes of the weights, the family's name or None for a peer)."""
    if case.name in BASELINES:
        pixels = (picture.color + 1) / 2

        @torch.inference_mode()
        def enlarge() -> object:
            return network(pixels.to(device, pick_dtype(case.dtype)))

        return enlarge, sum(parameter.nbytes for parameter in network.parameters()), None
    pipeline: RestorerPipeline = network
    assert case.attention is not None
    if pipeline.attention != case.attention and (pipeline.window_tokens or case.attention != "auto"):
        pipeline.set_attention(case.attention)
    settings = pipeline.resolve(RestoreSettings(scale=SCALE, guidance=DEFAULT_OMEGA).for_choice(case.name))

    def restore() -> object:
        return pipeline.run_tile(pipeline.prepare(picture, SCALE), settings, batched=case.padcfg == "batched")

    return restore, weight_bytes(pipeline), pipeline.config.model


@lru_cache
def _count(case: Case, model: str | None) -> tuple[int | None, int | None, int | None]:
    """(parameters, multiply-adds with attention's products, those of the products), where the geometry is known."""
    if case.name in BASELINES:
        return *count_baseline(case.name, case.height, case.width), 0
    if model is None or model not in MODEL_SPECS:
        return None, None, None
    guided, kind = case.name == "gendr-pix", case.attention or "full"
    cost = count(model, restorer_of(case.name), case.height, case.width, guided=guided, attention=kind)
    return cost.parameters, cost.total_macs, cost.attention_macs


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

"""`--dry-run`: what a stage would do and take, from its settings alone: no photos, no weights, no accelerator.

The models of the stage are built on the meta device at their true size, and one step, forward and backward, is run
there: that checks every shape, counts the operations and what the backward pass has to keep.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import Autoencoder, build_autoencoder, build_unet, predict, signal_and_noise
from gendrpix.specs import RESTORER_SPECS, ModelSpec, find_model
from training.config import (
    AdversarialConfig,
    AutoencoderConfig,
    BaseConfig,
    DiscriminatorConfig,
    FinestConfig,
    PixConfig,
    StageConfig,
    TeacherConfig,
)
from training.initializers.least_squares import fit_bytes
from training.initializers.subpatch import SubpatchNetwork
from training.losses.adversarial import DiscriminatorHeads, FrozenFeatures, discriminator_loss, generator_loss
from training.losses.perceptual import EncoderFeatureLoss
from training.losses.pixel import l1_loss
from training.losses.randpad import randpad
from training.losses.score_distillation import Denoiser, ScoreDistillation
from training.tools.speed import DTYPES, describe_speed

GIBIBYTE = 1 << 30
STUDENTS = {"base": "gendr", "teacher": "gendr", "adc": "gendr-adc", "pix": "gendr-pix"}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one process of a stage takes, counted and not measured."""

    parameters: dict[str, int]
    """Role => number of parameters, trained or frozen."""
    groups: dict[str, int]
    """Trained role => number of tensors that its optimiser steps."""
    state_bytes: int
    """Weights, gradients, AdamW's two moments, the average; float32, and the half-precision copies of autocast."""
    kept_bytes: int
    """Activations that the student's backward pass needs, for the whole batch."""
    flops: int
    """Operations of one micro-step, forward and backward, 2 a multiply-add."""
    fit_bytes: int = 0
    """What the largest least-squares fit of an end of the UNet takes before training, on the student's device."""


def describe(config: StageConfig, stage: str) -> str:
    """The resolved settings and the estimate, as text. Raises ValueError for an unknown model family."""
    loop = config.loop
    estimate = estimate_step(config, stage)
    roles = [f"  {role:<12} {count / 1e6:10.2f} M" for role, count in estimate.parameters.items()]
    total = estimate.state_bytes + estimate.kept_bytes
    return "\n".join(
        [
            json.dumps(dataclasses.asdict(config), indent=2, default=str),
            "parameters",
            *roles,
            f"steps          {loop.steps:,} of {loop.batch} x {loop.accumulate} crops a process",
            f"operations     {estimate.flops / loop.batch / 1e12:.2f} TFLOP an image",
            f"memory         {total / GIBIBYTE:.1f} GiB a process, without sharding: "
            f"{estimate.state_bytes / GIBIBYTE:.1f} weights, gradients, optimisers, average; "
            f"{estimate.kept_bytes / GIBIBYTE:.1f} activations (an estimate; libraries and fragments come on top)",
            *_describe_fit(config, estimate),
            *describe_speed(estimate.flops, loop),
            "dry run: nothing was loaded, trained or written",
        ]
    )


def _describe_fit(config: StageConfig, estimate: Estimate) -> list[str]:
    if not estimate.fit_bytes:
        return []
    crops = config.fit_crops if isinstance(config, AdversarialConfig) else 0
    return [
        f"fit            {crops:,} crops before the first step; its sums take {estimate.fit_bytes / GIBIBYTE:.2f} GiB"
    ]


def _fit_bytes(config: StageConfig, stage: str, student: Any) -> int:
    """Of the ends that the stage fits: both of GenDR-Adc, the last layer of GenDR-Pix."""
    begun = isinstance(config, PixConfig) and config.start
    if not isinstance(config, AdversarialConfig) or not config.fit_crops or begun:
        return 0
    ends = [student.conv_in, student.conv_out] if stage == "adc" else [student.conv_out]
    return max(fit_bytes(conv.in_channels, conv.out_channels) for conv in ends)


def estimate_step(config: StageConfig, stage: str) -> Estimate:
    """Run one step of the stage on the meta device and count."""
    spec, dtype = find_model(config.model), DTYPES[config.loop.mixed_precision]
    kept = _Kept()
    signal_and_noise(spec.timestep)  # kept from here on; the meta device has no numbers
    with torch.device("meta"), _plain_attention(), FlopCounterMode(display=False) as counter:
        if isinstance(config, BaseConfig):
            models = _base_step(config, spec, dtype, kept)
        elif isinstance(config, AutoencoderConfig):
            models = _autoencoder_step(config, spec, dtype, kept)
        elif isinstance(config, FinestConfig):
            models = _finest_step(config, spec, dtype, kept)
        elif isinstance(config, TeacherConfig):
            models = _teacher_step(config, spec, dtype, kept)
        elif isinstance(config, AdversarialConfig):
            models = _distillation_step(config, stage, spec, dtype, kept)
        else:
            raise ValueError(f"There is no dry run of the stage {stage!r}.")
    parameters = {role: sum(p.numel() for p in model.parameters()) for role, model in models.items()}
    stepped = {role: [p for p in model.parameters() if p.requires_grad] for role, model in models.items()}
    trained = {role: sum(p.numel() for p in weights) for role, weights in stepped.items() if weights}
    bytes_each = 4 + 4 + 8  # weight, gradient, AdamW
    state = sum(trained.values()) * bytes_each + 4 * (sum(parameters.values()) - sum(trained.values()))
    state += 4 * trained["student"] if config.loop.ema_decay else 0
    state += 2 * trained["student"] if dtype is not torch.float32 else 0
    return Estimate(
        parameters=parameters,
        groups={role: len(stepped[role]) for role in trained},
        state_bytes=state,
        kept_bytes=kept.total + kept.largest_recomputed,
        flops=counter.get_total_flops(),
        fit_bytes=_fit_bytes(config, stage, models["student"]),
    )


# Steps on the meta device ---------------------------------------------------------------------------------------------


def _autoencoder_step(
    config: AutoencoderConfig, spec: ModelSpec, dtype: torch.dtype, kept: _Kept
) -> dict[str, nn.Module]:
    model: Any = _cast(build_autoencoder(spec), dtype)
    pixels = _pixels(config, dtype)
    with kept.counted():
        loss = l1_loss(model(pixels).sample, pixels)
    loss.backward()
    return {"student": model}


def _finest_step(config: FinestConfig, spec: ModelSpec, dtype: torch.dtype, kept: _Kept) -> dict[str, nn.Module]:
    model: Any = _cast(SubpatchNetwork(build_unet(spec, *RESTORER_SPECS["gendr-pix"].channels(spec))), dtype)
    pixels = _pixels(config, dtype)
    with kept.counted():
        loss = l1_loss(model(pixels), pixels)
    loss.backward()
    return {"student": model}


def _base_step(config: BaseConfig, spec: ModelSpec, dtype: torch.dtype, kept: _Kept) -> dict[str, nn.Module]:
    autoencoder, codec = _frozen_autoencoder(spec, dtype)
    unet = _student(config, "base", spec, dtype, kept)
    with torch.no_grad():
        z = codec.encode(_pixels(config, dtype))
    with kept.counted():
        loss = Denoiser(unet, "epsilon").denoising_loss(z, z, [spec.timestep] * len(z), _prompt(spec, dtype))
    loss.backward()
    return {"student": unet, "autoencoder": autoencoder}


def _teacher_step(config: TeacherConfig, spec: ModelSpec, dtype: torch.dtype, kept: _Kept) -> dict[str, nn.Module]:
    autoencoder, codec = _frozen_autoencoder(spec, dtype)
    unet = _student(config, "teacher", spec, dtype, kept)
    with torch.no_grad():
        z, target = (codec.encode(_pixels(config, dtype)) for _ in range(2))
    models: dict[str, nn.Module] = {"student": unet, "autoencoder": autoencoder}
    judge, scores = _base_terms(config, spec, dtype, kept, models)
    form = "epsilon" if judge or scores else spec.forms["gendr"]
    with kept.counted():
        result = predict(unet, z, _prompt(spec, dtype), timestep=spec.timestep, form=form)
        loss = l1_loss(result, target)
        if config.pixel_weight:
            side = min(config.pixel_crop_px, config.data.crop_px) // 8
            loss = loss + codec.decode(result[..., :side, :side]).abs().mean()
        if judge:
            loss = loss + generator_loss(judge(result))
        if scores:
            loss = loss + scores.at(result, target, [spec.timestep] * len(result), torch.randn_like(result))
    loss.backward()
    if judge:
        discriminator_loss(judge(target), judge(result.detach())).backward()
    if scores:
        for network in scores.trained:
            network.keep_trainable(trainable=True)
            z, times = result.detach(), [spec.timestep] * len(result)
            network.denoising_loss(z, torch.randn_like(z), times, scores.prompt).backward()
    return models


def _base_terms(
    config: TeacherConfig, spec: ModelSpec, dtype: torch.dtype, kept: _Kept, models: dict[str, nn.Module]
) -> tuple[Callable[[Tensor], list[Tensor]] | None, ScoreDistillation | None]:
    """The discriminator and the score distillation that the teacher's settings ask for; adds their models."""
    judge = scores = None
    if config.backbone == "none" and config.score == "none":
        return judge, scores
    base = models["base"] = _frozen_unet("gendr", spec, dtype)
    if config.loop.gradient_checkpointing:
        kept.watch_checkpoints(base)
    if config.backbone != "none":
        judge = _judge(config, base, spec, dtype, models)
    if config.score != "none":
        plain = dataclasses.replace(config, loop=dataclasses.replace(config.loop, gradient_checkpointing=False))
        scores = ScoreDistillation(plain, base, torch.cat([_prompt(spec, dtype)] * 2), "epsilon")
        for role, network in zip(("fake score", "real score"), scores.trained, strict=False):
            models[role] = network.unet
            if config.loop.gradient_checkpointing:
                kept.watch_checkpoints(network.unet)
    return judge, scores


def _judge(
    config: DiscriminatorConfig, seen: Any, spec: ModelSpec, dtype: torch.dtype, models: dict[str, nn.Module]
) -> Callable[[Tensor], list[Tensor]]:
    """Hidden maps => the judgements of heads on `seen`'s features; adds the heads to the models."""
    features = FrozenFeatures(seen, _prompt(spec, dtype), spec.timestep)
    heads = models["heads"] = DiscriminatorHeads(features.channels, config.head_channels)

    def judge(hidden: Tensor) -> list[Tensor]:
        judgements: list[Tensor] = heads(features(hidden))
        return judgements

    return judge


def _distillation_step(
    config: AdversarialConfig, stage: str, spec: ModelSpec, dtype: torch.dtype, kept: _Kept
) -> dict[str, nn.Module]:
    autoencoder, latents = _frozen_autoencoder(spec, dtype)
    grid, prompt, pixels = PixelCodec(), _prompt(spec, dtype), _pixels(config, dtype)
    teacher = _frozen_unet("gendr", spec, dtype)
    models: dict[str, nn.Module] = {"autoencoder": autoencoder, "teacher": teacher}
    unet = models["student"] = _student(config, stage, spec, dtype, kept)
    seen = teacher
    if stage == "pix":
        adc = models["adc"] = _frozen_unet("gendr-adc", spec, dtype)
        seen = adc if config.backbone == "adc" else teacher
    if config.loop.gradient_checkpointing:
        kept.watch_checkpoints(seen)
    judge = _judge(config, seen, spec, dtype, models)

    def logits(result: Tensor) -> list[Tensor]:
        if stage == "pix":
            shifted = randpad(result, [(3, 5)] * len(result))
            result = (grid if config.backbone == "adc" else latents).encode(shifted)
        return judge(result)

    with torch.no_grad():
        target = predict(teacher, latents.encode(pixels), prompt, timestep=spec.timestep, form=spec.forms["gendr"])
        target = latents.decode(target) if stage == "pix" else target
    adversarial = config.backbone != "none" and config.adversarial_weight > 0

    def student(x: Tensor) -> Tensor:
        result = predict(unet, grid.encode(x), prompt, timestep=spec.timestep, form=spec.forms[STUDENTS[stage]])
        return grid.decode(result) if stage == "pix" else result

    with kept.counted():
        result = student(pixels)
        loss = l1_loss(result, target)
        if isinstance(config, PixConfig) and config.shift_weight:
            with torch.no_grad():
                student(randpad(pixels, [(3, 5)] * len(pixels)))
        if adversarial:
            loss = loss + generator_loss(logits(result))
        if isinstance(config, PixConfig) and config.perceptual != "none":
            loss = loss + EncoderFeatureLoss(autoencoder)(result, target)  # stands for LPIPS's trunks too
    loss.backward()
    if adversarial:
        discriminator_loss(logits(target), logits(result.detach())).backward()
    return models


def _student(config: StageConfig, stage: str, spec: ModelSpec, dtype: torch.dtype, kept: _Kept) -> Any:
    unet = _cast(build_unet(spec, *RESTORER_SPECS[STUDENTS[stage]].channels(spec)), dtype)
    if config.loop.gradient_checkpointing:
        kept.watch_checkpoints(unet)
    return unet


def _frozen_unet(restorer: str, spec: ModelSpec, dtype: torch.dtype) -> Any:
    return _cast(build_unet(spec, *RESTORER_SPECS[restorer].channels(spec)), dtype).requires_grad_(False)


def _frozen_autoencoder(spec: ModelSpec, dtype: torch.dtype) -> tuple[Autoencoder, LatentCodec]:
    autoencoder = _cast(build_autoencoder(spec), dtype)
    autoencoder.requires_grad_(False)
    return autoencoder, LatentCodec(autoencoder)


def _cast(model: Any, dtype: torch.dtype) -> Any:
    return nn.Module.to(model, dtype)  # without the warnings of diffusers' own `to`


def _pixels(config: StageConfig, dtype: torch.dtype) -> Tensor:
    return torch.empty(config.loop.batch, 3, config.data.crop_px, config.data.crop_px, dtype=dtype)


def _prompt(spec: ModelSpec, dtype: torch.dtype) -> Tensor:
    return torch.empty(1, spec.prompt_tokens, spec.prompt_channels, dtype=dtype)


# Counting -------------------------------------------------------------------------------------------------------------


class _Kept:
    """Bytes that autograd keeps for the backward pass; parameters and repeats are not counted."""

    def __init__(self) -> None:
        self.total = 0
        self.largest_recomputed = 0
        """Of the checkpointed blocks, the most that one keeps while it is computed again."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what the operations inside keep."""
        with self._hooks() as seen:
            yield
        self.total += sum(seen.values())

    def watch_checkpoints(self, model: Any) -> None:
        """Switch gradient checkpointing on; a block then keeps its inputs, which no hook sees, and nothing else."""

        def checkpoint(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
            self.total += sum(x.numel() * x.element_size() for x in inputs if isinstance(x, Tensor))
            with self._hooks() as seen:
                result = function(*inputs, **options)
            self.largest_recomputed = max(self.largest_recomputed, sum(seen.values()))
            return result

        model.enable_gradient_checkpointing(checkpoint)

    @contextmanager
    def _hooks(self) -> Iterator[dict[int, int]]:
        seen: dict[int, int] = {}
        alive = []  # so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            base = tensor if tensor._base is None else tensor._base
            if not isinstance(base, nn.Parameter):
                alive.append(base)
                seen[id(base)] = base.numel() * base.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield seen


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Count attention as the fused kernels compute it: they keep q, k, v and the result, no table of weights."""
    original = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = _attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = (query @ key.transpose(-1, -2)) @ value
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _ = ctx.saved_tensors
        gradient = gradients[0]
        weights = query @ key.transpose(-1, -2)  # computed again
        to_weights = gradient @ value.transpose(-1, -2)
        return to_weights @ key, to_weights.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ gradient


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    result: Tensor = _FusedAttention.apply(query, key, value)
    return result

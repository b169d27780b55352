"""Tiny restorers with random weights: the real classes, a few hundred thousand parameters, no identities."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from gendrpix.models.networks import build_autoencoder, build_unet
from gendrpix.restore.pipelines import PIPELINES, RestorerPipeline
from gendrpix.specs import MODEL_SPECS, Form, ModelSpec, find_restorer

TINY = ModelSpec(
    name="tiny",
    unet={
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
    },
    autoencoder_class="AutoencoderDC",
    autoencoder={
        "in_channels": 3,
        "latent_channels": 4,
        "attention_head_dim": 8,
        "encoder_block_types": "ResBlock",
        "decoder_block_types": "ResBlock",
        "encoder_block_out_channels": (8, 8, 16, 16),
        "decoder_block_out_channels": (8, 8, 16, 16),
        "encoder_layers_per_block": (0, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1),
        "encoder_qkv_multiscales": ((), (), (), ()),
        "decoder_qkv_multiscales": ((), (), (), ()),
        "upsample_block_type": "pixel_shuffle",
        "downsample_block_type": "pixel_unshuffle",
        "scaling_factor": 0.7,
    },
    latent_channels=4,
    prompt_tokens=3,
    timestep=500,
    window_tokens=(8, 4),
    forms={"gendr": "epsilon", "gendr-adc": "direct", "gendr-pix": "residual"},
)

EVEN = dataclasses.replace(
    TINY,
    name="even",
    unet={**TINY.unet, "block_out_channels": (32, 32), "attention_head_dim": (2, 2), "layers_per_block": (2, 1)},
)
"""Levels of one width, as the stage `finest` needs them, and attention on the finest."""

NARROW_SD21 = dataclasses.replace(
    MODEL_SPECS["sd21"],
    unet={
        **MODEL_SPECS["sd21"].unet,
        "block_out_channels": (16, 32, 64, 64),
        "attention_head_dim": (1, 2, 4, 4),
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
    },
    autoencoder={
        **MODEL_SPECS["sd21"].autoencoder,
        "block_out_channels": (8, 8, 16, 32),
        "norm_num_groups": 8,
    },
)
"""The full size's geometry, levels, forms and channels at both ends, a twentieth as wide."""


def tiny_autoencoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_autoencoder(TINY).eval()


def tiny_pipeline(
    name: str, *, seed: int = 0, form: Form | None = None, vae: nn.Module | None = None
) -> RestorerPipeline:
    """A restorer of that name whose output depends on its input, its prompt and its position on the grid."""
    spec = find_restorer(name)
    reads, writes = spec.channels(TINY)
    torch.manual_seed(seed + 1)
    unet = build_unet(TINY, reads, writes).eval()
    for parameter in unet.parameters():  # biases start at zero and would hide mistakes
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    latent = "latent" in (spec.reads, spec.writes)
    pipeline = PIPELINES[name](
        unet=unet,
        vae=(vae or tiny_autoencoder(seed)) if latent else None,
        prompts=torch.randn(2, TINY.prompt_tokens, TINY.prompt_channels),
        form=form or TINY.forms[name],
        timestep=TINY.timestep,
        model=TINY.name,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_family(folder: Path, names: tuple[str, ...] = tuple(PIPELINES)) -> Path:
    """{autoencoder, gendr, gendr-adc, gendr-pix} as the bundled weights lie, the autoencoder stored once."""
    autoencoder = tiny_autoencoder()
    autoencoder.save_pretrained(folder / "autoencoder")
    for name in names:
        pipeline = tiny_pipeline(name, vae=autoencoder)
        shared = None if pipeline.vae is None else "../autoencoder"
        pipeline.save_pretrained(folder / name, shared_vae=shared)
    return folder

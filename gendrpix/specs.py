"""Frozen descriptions of the models and the restorers, and the registries that name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

PATCH = 8
"""Pixels per side of one UNet position: the autoencoder's reduction, and the factor of the pixel-unshuffle."""

Offset = tuple[int, int]
"""(rows, columns) that PadCFG puts before the picture, each 0 to 7."""
POS_PAD: Offset = (4, 4)
"""The paper's offset of the positive branch."""
NEG_PAD: Offset = (3, 3)
"""The paper's offset of the negative branch."""
MAX_OMEGA = 3.0
"""Largest omega of the guidance; the smallest is 0."""
DEFAULT_OMEGA = 1.5
"""Omega where two passes are asked for and no number is given. The paper names none."""
DEFAULT_SCALE = 4.0
"""Scale where neither a scale nor a size is given."""
MIN_SCALE, MAX_SCALE = 1.0, 8.0
"""Smallest and largest scale."""
MAX_SIZE_PX = 1_000_000
"""Largest longer side that can be asked for, in pixels. The limits of the result are in `gendrpix.image.resize`."""

FORMAT_VERSION = 1
"""Version of the saved pipeline configuration; a folder saved with another one is refused by name."""

OVERLAP_PX = 64
"""Pixels that neighbouring tiles share, at least."""
MIN_TILE_PX = 2 * OVERLAP_PX
"""Smallest side of a tile: no more than half of it is shared with one neighbour."""


class Box(NamedTuple):
    """A rectangle in pixels of the picture it is cut from."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom), as PIL takes it."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


Crop = tuple[int, int, int, int]
"""Left, top, width and height of a part of a picture, in its pixels."""
Form = Literal["epsilon", "v", "residual", "direct"]
Domain = Literal["pixel", "latent"]
ColorFix = Literal["none", "wavelet", "adain"]
Bits = Literal[8, 16]
"""Bits a channel of a PNG."""
Dtype = Literal["float32", "bfloat16", "float16"]
"""Numbers that the networks compute with."""
TileChoice = int | Literal["auto"] | None
"""A side in pixels; "auto" for tiles only where the whole does not fit into memory; None for no tiles."""
Speedup = Literal["channels_last_vae", "channels_last_unet", "fused", "fp8", "compiled", "graphs"]
"""Ways to compute faster (`gendrpix.models.speedups`)."""
DEFAULT_SPEEDUPS: tuple[Speedup, ...] = ("channels_last_vae",)
"""Those that gain where they were measured and change no pixel."""
COLOR_FIXES: tuple[ColorFix, ...] = get_args(ColorFix)
"""Where a result's broad colours come from (`gendrpix.image.color_fix`)."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The geometry of one model family: a UNet, an autoencoder, and how the two are used."""

    name: str
    unet: Mapping[str, Any]
    """Arguments of `UNet2DConditionModel`, without `in_channels` and `out_channels`."""
    autoencoder_class: Literal["AutoencoderKL", "AutoencoderDC"]
    autoencoder: Mapping[str, Any]
    """Arguments of the autoencoder's class in diffusers."""
    latent_channels: int
    prompt_tokens: int
    """Length of the two stored prompt embeddings."""
    timestep: int
    """The one timestep at which the UNet is asked, 0 to 999."""
    window_tokens: tuple[int, ...]
    """Side, in tokens, of the self-attention field seen in training, one per resolution level."""
    window_sees_far: bool = False
    """Whether a window also sees a sample of the rest of the picture (`gendrpix.models.attention`): weights that use
    attention at the finest level lost 0.07 to 0.08 dB without it (docs/performance)."""
    forms: Mapping[str, Form]
    """How each restorer reads its UNet's output."""

    def __post_init__(self) -> None:
        levels = len(self.unet["block_out_channels"])
        if len(self.window_tokens) != levels:
            raise ValueError(
                f"{self.name}: window_tokens has {len(self.window_tokens)} entries, expected one per level ({levels})."
            )
        if not 0 <= self.timestep < 1000:
            raise ValueError(f"{self.name}: timestep is {self.timestep}, expected 0 to 999.")

    @property
    def prompt_channels(self) -> int:
        """Width of the prompt embeddings."""
        return int(self.unet["cross_attention_dim"])


@dataclass(frozen=True, kw_only=True)
class RestorerSpec:
    """What distinguishes a restorer: the domain its UNet reads and the one it writes."""

    name: str
    label: str
    reads: Domain
    writes: Domain
    guided: bool
    """Whether classifier-free guidance (PadCFG) is defined for it."""

    def channels(self, model: ModelSpec) -> tuple[int, int]:
        """UNet (input, output) channels for a model family: 192 for pixels (8 * 8 * RGB), else the latent's."""
        width = {"pixel": 3 * PATCH * PATCH, "latent": model.latent_channels}
        return width[self.reads], width[self.writes]


RESTORER_SPECS: Mapping[str, RestorerSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            RestorerSpec(name="gendr", label="GenDR", reads="latent", writes="latent", guided=False),
            RestorerSpec(name="gendr-adc", label="GenDR-Adc", reads="pixel", writes="latent", guided=False),
            RestorerSpec(name="gendr-pix", label="GenDR-Pix", reads="pixel", writes="pixel", guided=True),
        )
    }
)


Choice = Literal["gendr", "gendr-adc", "gendr-pix", "gendr-pix*"]
"""What can be compared, for signatures; its labels are in `CHOICE_LABELS`."""
UNGUIDED: Final = "gendr-pix*"
"""What users see GenDR-Pix called without guidance (the paper's Pix*): one unpadded pass of the same weights."""

CHOICE_LABELS: Mapping[str, str] = MappingProxyType(
    {
        **{spec.name: spec.label for spec in RESTORER_SPECS.values()},
        UNGUIDED: f"{RESTORER_SPECS['gendr-pix'].label}*",
    }
)
"""Labels of what can be compared, by name, GenDR first: the speeds are relative to it."""


def _unet_levels(count: int) -> dict[str, tuple[str, ...]]:
    """Cross-attention at every level but the last, as in Stable Diffusion 2.1."""
    crossed = count - 1
    return {
        "down_block_types": ("CrossAttnDownBlock2D",) * crossed + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * crossed,
    }


_SD21 = ModelSpec(
    name="sd21",
    unet=MappingProxyType(
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            **_unet_levels(4),
            "layers_per_block": 2,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        }
    ),
    autoencoder_class="AutoencoderKL",
    autoencoder=MappingProxyType(
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 16,
            "block_out_channels": (128, 128, 256, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "sample_size": 512,
            "scaling_factor": 0.2614,
        }
    ),
    latent_channels=16,
    prompt_tokens=77,
    timestep=500,
    window_tokens=(64, 32, 16, 8),
    forms=MappingProxyType({"gendr": "epsilon", "gendr-adc": "direct", "gendr-pix": "residual"}),
)

_SD21_VAE4 = dataclasses.replace(
    _SD21,
    name="sd21-vae4",
    autoencoder=MappingProxyType(
        {
            **_SD21.autoencoder,
            "latent_channels": 4,
            "block_out_channels": (128, 256, 512, 512),
            "scaling_factor": 0.18215,
        }
    ),
    latent_channels=4,
    timestep=999,
)
"""Stable Diffusion 2.1 with its own autoencoder: published one-step systems that were imported."""

_MINI = ModelSpec(
    name="mini",
    unet=MappingProxyType(
        {
            "sample_size": 16,
            "block_out_channels": (192, 192, 96),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": (2, 1, 1),
            "time_embedding_dim": 192,
            "norm_num_groups": 16,
            "cross_attention_dim": 64,
            "attention_head_dim": (6, 6, 3),
            "use_linear_projection": True,
        }
    ),
    autoencoder_class="AutoencoderDC",
    autoencoder=MappingProxyType(
        {
            "in_channels": 3,
            "latent_channels": 16,
            "attention_head_dim": 32,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_block_out_channels": (32, 64, 128, 128),
            "decoder_block_out_channels": (32, 64, 128, 128),
            "encoder_layers_per_block": (0, 2, 2, 2),
            "decoder_layers_per_block": (1, 1, 2, 3),
            "encoder_qkv_multiscales": ((), (), (), ()),
            "decoder_qkv_multiscales": ((), (), (), ()),
            "upsample_block_type": "pixel_shuffle",
            "downsample_block_type": "pixel_unshuffle",
        }
    ),
    latent_channels=16,
    prompt_tokens=4,
    timestep=500,
    window_tokens=(16, 8, 4),
    window_sees_far=True,
    forms=MappingProxyType({"gendr": "direct", "gendr-adc": "direct", "gendr-pix": "residual"}),
)

MODEL_SPECS: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in (_SD21, _SD21_VAE4, _MINI)})


def find_model(name: str) -> ModelSpec:
    """The model family of that name. Raises ValueError naming the known ones."""
    if name not in MODEL_SPECS:
        raise ValueError(f"Unknown model {name!r}: expected one of {', '.join(MODEL_SPECS)}.")
    return MODEL_SPECS[name]


def find_restorer(name: str) -> RestorerSpec:
    """The restorer of that name. Raises ValueError naming the known ones."""
    if name not in RESTORER_SPECS:
        raise ValueError(f"Unknown restorer {name!r}: expected one of {', '.join(RESTORER_SPECS)}.")
    return RESTORER_SPECS[name]


def restorer_of(choice: str) -> str:
    """The restorer behind a choice: "gendr-pix*" => "gendr-pix"."""
    return "gendr-pix" if choice == UNGUIDED else choice

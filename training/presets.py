"""The settings of every stage by preset name."""

from __future__ import annotations

from collections.abc import Mapping

from training.config import (
    AdcConfig,
    AutoencoderConfig,
    BaseConfig,
    DataConfig,
    FinestConfig,
    LoopConfig,
    PixConfig,
    StageConfig,
    TeacherConfig,
)


def _mini(steps: int, **changes: object) -> LoopConfig:
    return LoopConfig(steps=steps, **changes)  # type: ignore[arg-type]


def _sd21(**changes: object) -> LoopConfig:
    """AdamW at a constant 1e-5 in bfloat16 as in the paper; batch and steps are for each of eight processes."""
    settings: dict[str, object] = {
        "steps": 20_000,
        "batch": 4,
        "learning_rate": 1e-5,
        "final_learning_rate": 1e-5,
        "warmup_steps": 500,
        "weight_decay": 0.01,
        "ema_decay": 0.999,
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
        "checkpoint_every": 1000,
        "sample_every": 1000,
    }
    return LoopConfig(**{**settings, **changes})  # type: ignore[arg-type]


_SD21_DATA = DataConfig(crop_px=512, degradation="real-esrgan", num_workers=4)

PRESETS: Mapping[str, Mapping[str, StageConfig]] = {
    "autoencoder": {
        "mini": AutoencoderConfig(
            preset="mini",
            data=DataConfig(crop_px=64, degradation="none"),
            loop=_mini(1500, batch=16, learning_rate=1e-3, final_learning_rate=2e-5),
        ),
    },
    "base": {
        "mini": BaseConfig(preset="mini", loop=_mini(2000, batch=8, learning_rate=4e-4)),
        "sd21": BaseConfig(preset="sd21", model="sd21", data=_SD21_DATA, loop=_sd21(steps=50_000)),
    },
    "teacher": {
        "mini": TeacherConfig(
            preset="mini",
            pattern_tokens=7,
            loop=_mini(1500, learning_rate=4e-4),
        ),
        "sd21": TeacherConfig(
            preset="sd21",
            model="sd21",
            pixel_crop_px=256,
            backbone="base",
            score="cid",
            score_guidance=2.0,
            train_real=True,
            fake_learning_rate=1e-5,
            lora_rank=64,
            lora_alpha=128,
            alpha_bar=0.5,
            data=_SD21_DATA,
            loop=_sd21(),
        ),
    },
    "adc": {
        "mini": AdcConfig(
            preset="mini",
            truth_weight=0.5,
            real="truth",
            fit_crops=256,
            pattern_tokens=7,
            loop=_mini(1000, learning_rate=3e-4),
        ),
        "sd21": AdcConfig(preset="sd21", model="sd21", data=_SD21_DATA, loop=_sd21()),
    },
    "finest": {
        "mini": FinestConfig(
            preset="mini",
            data=DataConfig(negative_probability=0.0),
            loop=_mini(4000, batch=16, learning_rate=1e-3),
        ),
    },
    "pix": {
        "mini": PixConfig(
            preset="mini",
            backbone="adc",
            truth_weight=2.0,
            real="truth",
            finish_crops=1024,
            padded_probability=0.5,
            pattern_tokens=7,
            loop=_mini(2000, learning_rate=3e-4),
        ),
        "sd21": PixConfig(
            preset="sd21",
            model="sd21",
            backbone="adc",
            perceptual="lpips-vgg",
            data=_SD21_DATA,
            loop=_sd21(),
        ),
    },
}

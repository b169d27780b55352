"""The degradations that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from training.data.degradation_ranges import (
    BlurRange,
    DegradationMixture,
    DegradationPreset,
    JpegRange,
    NoiseRange,
    OtherCodecs,
    Pass,
    Preset,
    ResizeRange,
    SharpenRange,
)

# What lenses and scans do: mild's noise and JPEG behind an optical blur of up to three pixels of the truth.
_PHOTO = DegradationPreset(
    clean_probability=0.2,
    second=Pass(
        blur=BlurRange(
            probability=0.8,
            sinc_probability=0.0,
            kinds=(("iso", 0.5), ("aniso", 0.3), ("generalized_iso", 0.1), ("plateau_iso", 0.1)),
            sigma=(0.2, 3.0),
        ),
        resize=ResizeRange(up=0.0, down=0.0, factor=(1.0, 1.0)),
        noise=NoiseRange(probability=0.4, gaussian_probability=1.0, sigma_steps=(1.0, 8.0)),
        jpeg=JpegRange(probability=0.5, quality=(60, 95)),
    ),
    antialias=True,
)

_SIMPLE: Mapping[str, DegradationPreset] = {
    "bicubic": DegradationPreset(),
    # For the small models: one order, light, a quarter plain. Each damage is left out about half of the time.
    "mild": DegradationPreset(
        clean_probability=0.25,
        second=Pass(
            blur=BlurRange(
                probability=0.5, sinc_probability=0.0, kinds=(("iso", 0.5), ("aniso", 0.5)), sigma=(0.2, 1.2)
            ),
            resize=ResizeRange(up=0.0, down=0.0, factor=(1.0, 1.0)),
            noise=NoiseRange(probability=0.4, gaussian_probability=1.0, sigma_steps=(1.0, 8.0)),
            jpeg=JpegRange(probability=0.5, quality=(60, 95)),
        ),
        antialias=True,
    ),
    "photo": _PHOTO,
    # And what a camera does next: it sharpens, which leaves halos along edges. A network that has not met them takes
    # a halo for detail and draws it.
    "camera": dataclasses.replace(
        _PHOTO, sharpening=SharpenRange(probability=0.6, sigma=(0.5, 1.5), amount=(0.2, 1.6))
    ),
    # AdcSR (arXiv 2411.13383): resize, noise, JPEG and the second blur's probability as published;
    # the shot noise is that of a public setting with the same numbers, the kernels are Real-ESRGAN's.
    "adcsr": DegradationPreset(
        clean_probability=0.0,
        first=Pass(
            blur=BlurRange(),
            resize=ResizeRange(up=0.2, down=0.7, factor=(0.3, 1.5)),
            noise=NoiseRange(sigma_steps=(1.0, 15.0), poisson_scale=(0.05, 2.0)),
            jpeg=JpegRange(quality=(60, 95)),
        ),
        second=Pass(
            blur=BlurRange(probability=0.5, sigma=(0.2, 1.5)),
            resize=ResizeRange(up=0.3, down=0.4, factor=(0.6, 1.2)),
            noise=NoiseRange(sigma_steps=(1.0, 12.0), poisson_scale=(0.05, 1.0)),
            jpeg=JpegRange(quality=(60, 100)),
        ),
        final_sinc_probability=0.8,
    ),
    "real-esrgan": DegradationPreset(
        clean_probability=0.0,
        first=Pass(
            blur=BlurRange(),
            resize=ResizeRange(up=0.2, down=0.7, factor=(0.15, 1.5)),
            noise=NoiseRange(),
            jpeg=JpegRange(),
        ),
        second=Pass(
            blur=BlurRange(probability=0.8, sigma=(0.2, 1.5)),
            resize=ResizeRange(up=0.3, down=0.4, factor=(0.3, 1.2)),
            noise=NoiseRange(sigma_steps=(1.0, 25.0), poisson_scale=(0.05, 2.5)),
            jpeg=JpegRange(),
        ),
        final_sinc_probability=0.8,
    ),
}

MIXED_SHARES: tuple[tuple[str, float], ...] = (
    ("real-esrgan", 0.55),
    ("photo", 0.15),
    ("camera", 0.15),
    ("bicubic", 0.15),
)
"""Shares of the preset "mixed". Real low-quality photos are noisy, compressed and reduced more than once, which
`real-esrgan` alone covers, so it has the larger half. A network that met only such pictures would smooth good ones: the
other parts are light damage with a lens's blur, the halos of a camera's own sharpening, and pictures that are only
small, which are to stay as they are."""

MIXED_CODECS = OtherCodecs(webp=0.15, avif=0.1, jpeg_twice=0.2)
"""Of the last compression in "mixed": what web pages, phones and chats do beside a single JPEG, which keeps 0.55."""


def _sent(preset: DegradationPreset) -> DegradationPreset:
    """The preset with the codecs of "mixed" in its last compression."""
    if preset.second is None:
        return preset
    jpeg = dataclasses.replace(preset.second.jpeg, others=MIXED_CODECS)
    return dataclasses.replace(preset, second=dataclasses.replace(preset.second, jpeg=jpeg))


PRESETS: Mapping[str, Preset] = {
    **_SIMPLE,
    "mixed": DegradationMixture(parts=tuple((_sent(_SIMPLE[name]), share) for name, share in MIXED_SHARES)),
}


def find_preset(name: str) -> Preset:
    """The preset of that name. ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"degradation is {name!r}, expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]

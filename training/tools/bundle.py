"""Gather the stages' exported weights into one folder that `gendrpix --weights` reads, with a model card each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gendrpix.files import write_text
from gendrpix.restore.pipelines import PIPELINES, GenDRPipeline
from gendrpix.weights.load import load_autoencoder
from gendrpix.weights.verify import write_sums
from training.loop.export import replace_saved
from training.tools.offset_choice import OFFSETS, store_offsets
from training.tools.provenance import (
    describe_degradation,
    describe_losses,
    describe_phase,
    describe_trunks,
    find_phases,
    read_settings,
)
from training.tools.released import choose_licence, describe_place, describe_released, find_released

STAGES = {"autoencoder": "autoencoder", "gendr": "teacher", "gendr-adc": "adc", "gendr-pix": "pix"}
"""Folder in the bundle => stage, and folder in the runs."""

CARD = """---
license: {licence}
library_name: diffusers
tags: [super-resolution, image-restoration]
---

# gendrpix {model}: {name}

{role} Stage `{stage}` of gendrpix's training, preset `{preset}`. {parameters:.2f}M parameters, fp16 safetensors. The
table is the last phase's configuration, of a mixture its largest part's.

{used}

| | |
|---|---|
| data | {data} |
| degradation | {degradation} |
| steps | {steps:,} of {batch} crops of {crop_px} x {crop_px} px, seed {seed} |
| optimiser | AdamW, peak learning rate {learning_rate:g}, EMA {ema_decay} |
| loss terms | {losses} |
| perceptual features | {trunks} |
| hardware | {hardware} |

The phases, earliest first:

{phases}

{notes}**Figures**: the table in the project's README, with the command that makes it.

**Limits**: {limits}
"""

IMPORTED = """---
license: {licence}
library_name: diffusers
tags: [super-resolution, image-restoration]
---

# gendrpix {model}: autoencoder

{role} It was not trained here: it is {source}, whose own licence applies. {parameters:.2f}M parameters, fp16
safetensors.
"""

LIMITS = """a small model trained for a short time on few photos. It removes light blur, noise and JPEG traces and
enlarges; it invents no fine texture, and heavy degradation stays visible. Faces and text may come out wrong. Do
not use a result as evidence of what a scene looked like."""
LARGE_LIMITS = """a generative model: fine texture, faces and text may be invented, and look right without being so. Do
not use a result as evidence of what a scene looked like."""

ATTRIBUTION = "ATTRIBUTION.csv"

ROLES = {
    "autoencoder": "The 8x, 16-channel autoencoder shared by GenDR and GenDR-Adc.",
    "gendr": "GenDR, the one-step restorer in the latent space: the teacher.",
    "gendr-adc": "GenDR-Adc, stage I of the distillation: no encoder.",
    "gendr-pix": "GenDR-Pix, stage II of the distillation: no autoencoder at all.",
}


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """What goes into the bundle and what its cards say."""

    runs: Path = Path("runs")
    """Folder of the runs `autoencoder`, `teacher`, `adc` and `pix`."""
    out: Path
    """Folder of the bundle, which must be new unless `overwrite` is given."""
    data: str = "a folder of photos"
    """Words for the cards: what it was trained on."""
    hardware: str = "not stated"
    """Words for the cards: where and how long."""
    licence: str = ""
    """Licence of the weights. Empty: openrail++ where they began with Stable Diffusion 2.1, else cc-by-sa-4.0."""
    notes: str = ""
    """More words for the cards."""
    limits: str = ""
    """Words for the cards: what the weights cannot do. Empty: words for a model of that size."""
    attribution: Path | None = None
    """CSV that names every photo with its source and licence; put beside the weights as ATTRIBUTION.csv."""
    overwrite: bool = False
    """Replace an earlier bundle in the same folder."""
    offsets: Path | None = None
    """File of `python -m training offsets`, whose choice becomes the default of GenDR-Pix. None: `offsets.json` in the
    runs, where there is one."""


def bundle(config: BundleConfig) -> Path:
    """Write the four folders, the autoencoder stored once and shared, and the list of their hashes.

    Raises ValueError where a run has no weights, and where something would be replaced unasked.
    """
    check_runs(config)
    half = torch.float16
    trained = config.runs / "autoencoder" / "weights" / "autoencoder"
    teacher = GenDRPipeline.from_pretrained(config.runs / STAGES["gendr"] / "weights" / "gendr", dtype=half)
    autoencoder: Any = load_autoencoder(trained, half) if trained.is_dir() else teacher.vae
    sizes = {"autoencoder": _count(autoencoder)}
    replace_saved(config.out / "autoencoder", autoencoder)
    for name, pipeline_class in PIPELINES.items():
        pipeline = pipeline_class.from_pretrained(config.runs / STAGES[name] / "weights" / name, dtype=half)
        if name == "gendr-pix":
            store_offsets(pipeline, config.offsets or config.runs / OFFSETS)
        shared = {"shared_vae": "../autoencoder"} if pipeline.vae is not None else {}
        replace_saved(config.out / name, pipeline, **shared)
        sizes[name] = _count(pipeline.unet)
    for name in STAGES:
        (config.out / name / "README.md").write_text(_card(config, name, sizes[name]), encoding="utf-8")
    if config.attribution is not None:
        write_text(config.out / ATTRIBUTION, config.attribution.read_text(encoding="utf-8"))
    write_sums(config.out)
    return config.out


def check_runs(config: BundleConfig) -> None:
    """Raise ValueError where a run has no weights, or a file is in the way or missing."""
    for name, stage in STAGES.items():
        own_autoencoder = name == "autoencoder" and not (config.runs / stage).exists()
        if not own_autoencoder and not (config.runs / stage / "weights" / name).is_dir():
            raise ValueError(
                f"{config.runs / stage} has no finished weights of {name}; run that stage to its end first."
            )
    if config.attribution is not None and not config.attribution.is_file():
        raise ValueError(f"{config.attribution} is no file; give --attribution a CSV that names the photos.")
    if config.offsets is not None and not config.offsets.is_file():
        raise ValueError(f"{config.offsets} is no file; `python -m training offsets` writes one.")
    if config.out.exists() and any(config.out.iterdir()) and not config.overwrite:
        raise ValueError(f"{config.out} is not empty; pass another --out, or --overwrite to replace what is there.")


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _card(config: BundleConfig, name: str, parameters: int) -> str:
    run = config.runs / STAGES[name]
    used = find_released(config.runs, name)
    licence = config.licence or choose_licence(used)
    if not run.is_dir():
        teacher = read_settings(config.runs / STAGES["gendr"])
        source = describe_place(str(teacher.get("autoencoder", "")))
        return IMPORTED.format(
            licence=config.licence or "other",
            model=teacher["model"],
            role=ROLES[name],
            source=source,
            parameters=parameters / 1e6,
        )
    settings = read_settings(run)
    loop, data = settings["loop"], settings["data"]
    phases = find_phases(run)
    return CARD.format(
        licence=licence,
        model=settings["model"],
        used=describe_released(used),
        name=name,
        role=ROLES[name],
        stage=STAGES[name],
        preset=settings["preset"],
        parameters=parameters / 1e6,
        data=config.data,
        degradation=describe_degradation(settings),
        steps=loop["steps"],
        batch=loop["batch"] * loop["accumulate"],
        crop_px=data["crop_px"],
        seed=loop["seed"],
        learning_rate=loop["learning_rate"],
        ema_decay=loop["ema_decay"],
        losses=describe_losses(settings),
        trunks=describe_trunks(phases),
        hardware=config.hardware,
        phases="\n".join(f"{i}. {describe_phase(*one)}" for i, one in enumerate(phases.items(), 1)),
        notes=f"{config.notes}\n\n" if config.notes else "",
        limits=config.limits or (LIMITS if settings["model"] == "mini" else LARGE_LIMITS),
    )

"""The command `import`: a published one-step system becomes a folder of GenDR's kind."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendrpix.cli.console import quiet_libraries, say
from gendrpix.settings.options import Import

if TYPE_CHECKING:
    from gendrpix.baselines.adapters import System
    from gendrpix.restore.pipelines import GenDRPipeline

MODULES = {"osediff": "osediff", "pisa-sr": "pisasr", "hypir": "hypir"}
"""Name of a system => its module in `gendrpix.baselines`."""
FAMILY = "sd21-vae4"
MAX_FILE_BYTES = 8_000_000_000
CARD = """---
license: other
license_name: '{licence}'
---

# {label}, merged

{label} ({source}) merged into the Stable Diffusion 2.1 that was given as its base, to be run as GenDR: form `{form}`,
timestep {timestep}, the prompt {prompt!r} stored as an embedding. The original describes each picture by words of its
own; results with one fixed prompt differ from published ones.

Licence of {label}'s weights: {licence}. That of the base holds too.
"""


def import_system(options: Import) -> int:
    """Merge the published weights into the base and save the result. Raises ValueError in a sentence."""
    system = find_system(options.system)
    say(f"{system.label} ({system.source}): licence {system.licence}; the base model's licence holds too.")
    if not system.commercial:
        say(f"{system.label}'s licence forbids commercial use, of the merged weights as well.")
    if options.output.exists():
        raise ValueError(f"{options.output} exists already; pass another folder with -o, or remove it.")
    with quiet_libraries():
        pipeline = merged_pipeline(system, options.base, options.weights, options.prompt)
        save(pipeline, options.output, system, options.prompt)
    print(f"{system.label} is in {options.output}; use it with: --weights {options.output} --restorers gendr")
    return 0


def find_system(name: str) -> System:
    """The system of that name. Raises ValueError naming the known ones."""
    if name not in MODULES:
        raise ValueError(f"Unknown system {name!r}; expected one of {', '.join(MODULES)}.")
    system: System = importlib.import_module(f"gendrpix.baselines.{MODULES[name]}").SYSTEM
    return system


def merged_pipeline(system: System, base: str, weights: Path, prompt: str) -> GenDRPipeline:
    """The published weights merged into the base, as a GenDR in float32.

    base: folder or hub id in diffusers' layout. Raises ValueError where the base is no Stable Diffusion 2.1 that
    predicts noise, or the file is not the system's.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from gendrpix.restore.pipelines import GenDRPipeline
    from gendrpix.specs import find_model
    from gendrpix.weights.source import check_geometry, encode_prompts, load_part, read_form

    published = read_published(weights, system.label)
    spec = find_model(FAMILY)
    if read_form(base) != "epsilon":
        raise ValueError(f"{base} predicts velocity; {system.label} needs SD 2.1 base, which predicts noise.")
    unet = load_part(UNet2DConditionModel, base, "unet", dtype=torch.float32, use_safetensors=True)
    check_geometry(unet, spec, base)
    vae = load_part(AutoencoderKL, base, "vae", dtype=torch.float32, use_safetensors=True)
    if (unet.config.in_channels, unet.config.out_channels, vae.config.latent_channels) != (4, 4, 4):
        raise ValueError(f"{base} has {vae.config.latent_channels} latent channels; expected 4, as published.")
    unet_state, vae_state = unet.state_dict(), vae.state_dict()
    system.merge(unet_state, vae_state, published)
    unet.load_state_dict(unet_state)
    vae.load_state_dict(vae_state)
    prompts = encode_prompts(base, (prompt, prompt))
    return GenDRPipeline(
        unet=unet.eval(), vae=vae.eval(), prompts=prompts, form=system.form, timestep=system.timestep, model=spec.name
    )


def read_published(file: Path, label: str) -> Mapping[str, Any]:
    """A published file, of which nothing but numbers, words and tables of them is read. Raises ValueError."""
    import torch

    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file} is missing or larger than {MAX_FILE_BYTES:,} bytes; pass {label}'s weights.")
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{file} is damaged or holds more than numbers ({type(error).__name__}) and is not loaded; "
            f"get {label}'s weights again."
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{file} holds no table of weights; expected {label}'s.")
    return found


def save(pipeline: GenDRPipeline, folder: Path, system: System, prompt: str) -> None:
    """Write the pipeline, its card and the list of hashes; the folder appears when it is whole."""
    from gendrpix.files import make_folder
    from gendrpix.weights.verify import write_sums

    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import-") as place:
        whole = Path(place) / "whole"
        pipeline.save_pretrained(whole)
        card = CARD.format(
            licence=system.licence,
            label=system.label,
            source=system.source,
            form=system.form,
            timestep=system.timestep,
            prompt=prompt,
        )
        (whole / "README.md").write_text(card, encoding="utf-8")
        write_sums(whole)
        shutil.move(whole, folder)

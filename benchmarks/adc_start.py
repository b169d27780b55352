"""How near GenDR-Adc is to its teacher before training, for teachers of each form, as a Markdown table.

    python -m benchmarks.adc_start PHOTOS --crops 256 > table.md

PHOTOS is a folder of training photos. The ends are fitted to crops of the photos that training uses; the distances,
mean |z - z_tea|, are measured on crops of those that it holds out. The bundled GenDR gives the latent directly. Its
equals in the other forms are made by rewriting `conv_out`: what gives back the input latent is fitted to the features,
and added or taken away. `--teachers` names more, folders of GenDRs of any form.
"""

import argparse
import copy
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.models.networks import predict, signal_and_noise
from gendrpix.restore.pipelines import GenDRPipeline, load_restorer
from gendrpix.specs import ModelSpec, find_model
from training.data.crops import open_crops
from training.data.loader import fitting_batches, sample_batches
from training.initializers.ends import Batches, begin_adc, fit_adc
from training.initializers.least_squares import fit_conv_in, fit_conv_out
from training.presets import PRESETS


@torch.no_grad()
def in_form(direct: GenDRPipeline, form: str, batches: Batches) -> tuple[GenDRPipeline, float]:
    """(A GenDR of another form that gives nearly the same latents, the share of the input latents that it carries)."""
    codec, prompts, timestep = LatentCodec(direct.vae), direct.prompts, direct.config.timestep
    carrying = copy.deepcopy(direct.unet)

    def inputs():
        for batch in batches("the input latent"):
            z = codec.encode(batch["lq"])
            carrying(z, timestep, prompts[batch["negative"].long()])
            yield z

    share = fit_conv_out(carrying, inputs(), ridge=1e-6)
    alpha, sigma = signal_and_noise(timestep)
    of_input, of_latent = {
        "epsilon": (1 / sigma, -alpha / sigma),
        "v": (alpha / sigma, -1 / sigma),
        "residual": (-1.0, 1.0),
    }[form]
    unet = copy.deepcopy(direct.unet)
    for own, identity in zip(unet.conv_out.parameters(), carrying.conv_out.parameters(), strict=True):
        own.copy_(of_input * identity + of_latent * own)
    settings = {"form": form, "timestep": timestep, "model": direct.config.model}
    return GenDRPipeline(unet=unet, vae=direct.vae, prompts=prompts, **settings), share


@torch.no_grad()
def distances(teacher: GenDRPipeline, spec: ModelSpec, batches: Batches, held_out: Tensor) -> list[float]:
    """To the teacher's latents: of E(x), of a start with `conv_in` alone fitted and read as direct, of both ends."""
    codec, grid, prompt, timestep = LatentCodec(teacher.vae), PixelCodec(), teacher.prompts[:1], spec.timestep
    z = torch.cat([codec.encode(part) for part in held_out.split(8)])
    parts = list(zip(z.split(8), held_out.split(8), strict=True))
    wanted = torch.cat(
        [predict(teacher.unet, part, prompt, timestep=timestep, form=teacher.config.form) for part, _ in parts]
    )
    found = [float((z - wanted).abs().mean())]
    unread = begin_adc(teacher, spec)
    unread.conv_out = copy.deepcopy(teacher.unet.conv_out)
    fit_conv_in(unread, ((grid.encode(b["lq"]), teacher.unet.conv_in(codec.encode(b["lq"]))) for b in batches("-")))
    fitted = begin_adc(teacher, spec)
    fit_adc(fitted, teacher, batches)
    for unet in (unread, fitted):
        made = [predict(unet, grid.encode(x), prompt, timestep=timestep, form="direct") for _, x in parts]
        found.append(float((torch.cat(made) - wanted).abs().mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--crops", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--teachers", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    direct = load_restorer("gendr", options.weights)
    spec = find_model(direct.config.model)
    crops, held_out_crops = open_crops(dataclasses.replace(PRESETS["adc"]["mini"].data, folder=options.photos), seed=0)
    batches = fitting_batches(crops, options.crops, torch.device("cpu"), quiet=True)
    held_out = torch.cat([b["lq"] for b in sample_batches(held_out_crops, options.held_out, torch.device("cpu"))])
    teachers = {"bundled, direct": direct}
    for form in ("residual", "v", "epsilon"):
        teachers[f"the same, {form}"], share = in_form(direct, form, batches)
        print(f"the {form} network carries {share:.4%} of the input latents", flush=True)
    for folder in options.teachers:
        teachers[folder.name] = GenDRPipeline.from_pretrained(folder)
    print("| teacher | returning E(x) | `conv_in` fitted, read as direct | both ends fitted |\n|---|---:|---:|---:|")
    for name, teacher in teachers.items():
        cells = " | ".join(f"{value:.4f}" for value in distances(teacher, spec, batches, held_out))
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

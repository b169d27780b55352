"""What the discriminator's heads learn of a fixed GenDR-Pix* in a few steps, as a Markdown table.

    python -m benchmarks.discriminator_gain PHOTOS --steps 150 > table.md

PHOTOS is a folder of training photos. The heads learn to tell true crops from what GenDR-Pix* makes of them, with the
settings that the stage `pix` ships and at other rates beside them, on the same batches. Then, on crops of photos that
training holds out: each head's loss, and the share of pairs in which the truth ranks higher than the student's.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gendrpix.models.codecs import LatentCodec, PixelCodec
from gendrpix.restore.pipelines import GenDRPixPipeline, load_restorer
from training.config import PixConfig
from training.data.crops import open_crops
from training.data.loader import sample_batches
from training.loop.discriminator import Discriminator
from training.loop.run import Run
from training.losses.adversarial import FrozenFeatures, report_heads
from training.losses.randpad import draw_offsets, randpad
from training.presets import PRESETS

Maps = Callable[[Tensor, list[int], int], list[Tensor]]


def open_maps(backbone: str, weights: str) -> tuple[Maps, list[int]]:
    """(Pictures, sample indices, stream => the feature maps that the heads see behind RandPad, their widths)."""
    judge = load_restorer({"adc": "gendr-adc", "gendr": "gendr", "start": "gendr-pix"}[backbone], weights)
    codec = LatentCodec(judge.vae) if backbone == "gendr" else PixelCodec()
    features = FrozenFeatures(judge.unet, judge.prompts[:1], judge.config.timestep)

    @torch.no_grad()
    def maps(y: Tensor, indices: list[int], stream: int) -> list[Tensor]:
        seen: list[Tensor] = features(codec.encode(randpad(y, draw_offsets(indices, 0, stream))))
        return seen

    return maps, features.channels


def show(judges: dict[str, Discriminator], pix: GenDRPixPipeline, maps: Maps, batches: list[dict[str, Tensor]]) -> str:
    """The table of held-out figures."""
    pairs = []
    for batch in batches:
        indices = batch["index"].tolist()
        pairs.append((maps(batch["hq"], indices, 2), maps(pix.restore(batch["lq"]), indices, 1)))
    weights = torch.ones(sum(len(batch["hq"]) for batch in batches))
    lines = []
    for name, judge in judges.items():
        with torch.no_grad():
            judged = [[judge.heads(side) for side in pair] for pair in pairs]
        real, fake = (
            [torch.cat(parts) for parts in zip(*(pair[side] for pair in judged), strict=True)] for side in (0, 1)
        )
        told = {key: float(value) for key, value in report_heads(real, fake, weights).items()}
        heads = [key.removesuffix("/loss") for key in told if key.endswith("/loss")]
        if not lines:
            lines = ["| rate | pairs | " + " | ".join(f"{head}: loss, pairs" for head in heads) + " |"]
            lines.append("|---|---:|" + "---:|" * len(heads))
        cells = [f"{told[f'{head}/loss']:.3f}, {told[f'{head}/pairs']:.2f}" for head in heads]
        lines.append(f"| {name} | {told['pairs']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--backbone", choices=("adc", "gendr", "start"), default="adc")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--rates", type=float, nargs="*", default=[2e-4, 2e-3])
    options = parser.parse_args()
    shipped = PRESETS["pix"]["mini"]
    assert isinstance(shipped, PixConfig)
    pix = load_restorer("gendr-pix", options.weights)
    assert isinstance(pix, GenDRPixPipeline)
    maps, channels = open_maps(options.backbone, options.weights)
    data = dataclasses.replace(shipped.data, folder=options.photos, negative_probability=0.0)
    crops, held_out_crops = open_crops(data, seed=0)
    place, batch_size = torch.device("cpu"), shipped.loop.batch
    with tempfile.TemporaryDirectory() as folder:
        loop = dataclasses.replace(shipped.loop, tracker="none")
        config = dataclasses.replace(shipped, run=Path(folder), loop=loop, data=data)
        run, judges = Run(config, "pix"), {}
        for rate in (config.discriminator_learning_rate, *options.rates):
            torch.manual_seed(0)
            one = dataclasses.replace(config, discriminator_learning_rate=rate)
            judges[f"{rate:g}{'' if judges else ' (shipped)'}"] = Discriminator(one, run, channels)
        seen = [maps(b["hq"], b["index"].tolist(), 2) for b in sample_batches(crops, config.whitening_crops, place)]
        for judge in judges.values():
            judge.whiten(seen)
        weights, count = torch.ones(batch_size), options.steps * batch_size
        for step, batch in enumerate(sample_batches(crops, count, place, batch=batch_size)):
            indices = batch["index"].tolist()
            real, fake = maps(batch["hq"], indices, 2), maps(pix.restore(batch["lq"]), indices, 1)
            for judge in judges.values():
                judge.learn(real, fake, weights, step)
        held_out = list(sample_batches(held_out_crops, options.held_out, place))
        print(f"{options.steps} steps of {batch_size} crops, {options.held_out} held-out crops, {options.backbone}\n")
        print(show(judges, pix, maps, held_out), flush=True)
        run.finish()


if __name__ == "__main__":
    main()

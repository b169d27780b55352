"""`python -m training evaluate`: restorers and peers over a set of pictures, as tables with confidence intervals.

Everything is scored as it would be saved, rounded to 8 bits, without a border crop. Truths are cropped at bottom and
right to multiples of the scale before they are degraded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gendrpix.comparison.comparison import Record
from gendrpix.devices import pick_device, pick_dtype
from gendrpix.files import write_text
from gendrpix.image.read import open_picture
from gendrpix.image.write import save_png, to_pil
from gendrpix.metrics.scorer import Scorer
from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import Autoencoder
from gendrpix.report.plots import save_figure
from gendrpix.restore.cache import RestorerCache
from gendrpix.settings.restoration import CompareSettings
from gendrpix.specs import PATCH
from training.evaluation.config import EvaluateConfig
from training.evaluation.datasets import (
    Case,
    Degrading,
    EvaluationDataset,
    degraded_dataset,
    held_out_dataset,
    paired_dataset,
    photo_dataset,
)
from training.evaluation.figures import Cuts, plot_intervals
from training.evaluation.methods import (
    RESIZERS,
    TRUTH,
    Method,
    baseline_methods,
    open_methods,
    output_methods,
    truth_method,
)
from training.evaluation.report import CsvTable, describe, make_headings, to_document, to_markdown
from training.evaluation.statistics import Row, mean_interval
from training.loop.validation import psnr

logger = logging.getLogger(__name__)
FILES = ("scores.csv", "scores.json", "scores.md", "intervals.png", "crops.png")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What evaluations with the same weights and metrics can share."""

    scorer: Scorer
    cache: RestorerCache


def load(config: EvaluateConfig) -> Loaded:
    """The metrics and, still empty, the cache of restorers. A metric that cannot be had is said."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # pyiqa loads the trunks by an older argument
        scorer = Scorer(config.metrics, device=pick_device(config.device), lpips_net=config.lpips_net, remember=True)
        for reason in filter(None, map(scorer.unavailable, scorer.names)):
            logger.warning("%s", reason)
    cache = RestorerCache(config.weights, device=pick_device(config.device), dtype=pick_dtype(config.dtype))
    return Loaded(scorer=scorer, cache=cache)


def evaluate(config: EvaluateConfig, loaded: Loaded | None = None) -> Path:
    """Run and score everything, write all files, and give back the Markdown's path.

    loaded: of an earlier evaluation with the same weights and metrics. Raises ValueError for settings or folders that
    do not fit, before anything is restored where that can be told.
    """
    targets = {name: config.out / name for name in FILES}
    taken = [path for path in targets.values() if path.exists()]
    if taken and not config.overwrite:
        raise ValueError(f"{taken[0]} exists already; choose another --out or pass --overwrite.")
    loaded = loaded or load(config)
    scorer = loaded.scorer
    methods, dataset = prepare(config, loaded.cache)
    against, judged = choose_reference(config.against, methods), choose_judged(methods)
    cuts = Cuts(judged.name, config.crop_px) if config.crops else None
    config.out.mkdir(parents=True, exist_ok=True)
    with targets["scores.csv"].open("w", encoding="utf-8", newline="") as file:
        table = CsvTable(file, scorer.names)
        rows = score_all(methods, dataset, scorer, table, results_folder(config), cuts=cuts, timing=config.timing)
    headings = make_headings(scorer)
    header = describe(config, dataset, methods, rows, scorer)
    if config.reconstruction and dataset.has_truth and {"gendr", "gendr-adc"}.intersection(config.restorers):
        header["autoencoder"] = score_autoencoder(config, dataset, loaded.cache)
    document = to_document(rows, header, against)
    write_text(targets["scores.json"], json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    write_text(targets["scores.md"], to_markdown(rows, header, against, headings))
    if any(row.values for row in rows):
        save_figure(plot_intervals(rows, headings, f"{dataset.label}: mean and 95% interval"), targets["intervals.png"])
    if cuts:
        sheet = cuts.sheet(rows, judged.label, config.crops, columns=config.crop_columns)
        save_png(sheet, targets["crops.png"], overwrite=True)
    return targets["scores.md"]


def prepare(config: EvaluateConfig, cache: RestorerCache) -> tuple[list[Method], EvaluationDataset]:
    """Who competes, weights loaded, and on what."""
    dataset = open_dataset(config)
    settings = CompareSettings(
        scale=float(config.scale),
        pos_pad=config.pos_pad,
        neg_pad=config.neg_pad,
        plain_cfg=config.plain_cfg,
        warmup=1 if config.timing else 0,
        repeats=config.repeats,
    )
    networks = baseline_methods(config.baselines, settings, cache.device)
    peers, dataset = output_methods(config.outputs, dataset, settings, common=config.common, others=networks)
    dataset = dataset.spread(config.pictures)
    methods = open_methods(
        config.restorers, guidance=config.guidance, settings=settings, cache=cache, attention=config.attention
    )
    truth = [truth_method(settings)] if dataset.has_truth else []
    return [*truth, *methods, *networks, *peers], dataset


def open_dataset(config: EvaluateConfig) -> EvaluationDataset:
    """The set that the settings name."""
    how = Degrading(degradation=config.degradation, seed=config.seed, scale=config.scale, most_px=config.most_px)
    if config.truths is not None:
        return degraded_dataset(config.truths, how)
    if config.held_out is not None:
        return held_out_dataset(config.held_out, how)
    if config.pairs is not None:
        return paired_dataset(config.pairs, scale=config.scale)
    assert config.photos is not None
    return photo_dataset(config.photos, scale=config.scale)


def choose_reference(asked: str, methods: Sequence[Method]) -> str:
    """Whom differences are taken to. Raises ValueError for somebody who is not there."""
    names = [method.name for method in methods if method.name != TRUTH]
    if asked and asked not in names:
        raise ValueError(f"--against is {asked!r}; expected one of {', '.join(names)}.")
    return asked or ("gendr" if "gendr" in names else names[0])


def choose_judged(methods: Sequence[Method]) -> Method:
    """Whose results choose the pictures and crops of the sheet: the last with weights of ours, else the last of all
    but the truth and the resizers, else the last."""
    own = [method for method in methods if method.weights]
    others = [method for method in methods if method.name != TRUTH and method.name not in RESIZERS]
    return (own or others or list(methods))[-1]


def results_folder(config: EvaluateConfig) -> Path | None:
    """Where results are kept, if they are."""
    return config.out / "results" if config.save_results else None


def score_all(
    methods: Sequence[Method],
    dataset: EvaluationDataset,
    scorer: Scorer,
    table: CsvTable | None = None,
    keep: Path | None = None,
    *,
    cuts: Cuts | None = None,
    timing: bool = True,
) -> list[Row]:
    """Every method on every case, picture by picture; each row goes to `table` as soon as it is there.

    keep: folder for the results as PNG, one folder a restorer. cuts: takes a crop of each result. timing: False leaves
    time and memory out of the rows.
    """
    rows = []
    labels = {method.name: method.label for method in methods}
    with setting_aside(), tqdm(total=len(dataset) * len(methods), desc=dataset.label, disable=None) as bar:
        for case in dataset:
            records = {}
            for method in methods:
                record = records[method.name] = method.run(case, scorer)
                row = to_row(method, case, record)
                if not timing:
                    row = dataclasses.replace(row, seconds=None, peak_bytes=None)
                rows.append(row)
                if table is not None:
                    table.add(row)
                if keep is not None and method.computes:
                    folder = keep / method.name.replace("*", "-star")
                    folder.mkdir(parents=True, exist_ok=True)
                    save_png(record.image, folder / f"{case.name}.png", overwrite=True)
                bar.update()
            if cuts is not None:
                cuts.add(case, records, labels)
    return rows


@contextlib.contextmanager
def setting_aside() -> Iterator[None]:
    """Inside, what was loaded before is no garbage to look for: measuring memory collects garbage before each run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def score_autoencoder(config: EvaluateConfig, dataset: EvaluationDataset, cache: RestorerCache) -> dict[str, Any]:
    """The autoencoder's own RGB PSNR on the truths: the interval over pictures, and each picture's."""
    found = reconstruction_psnr(cache("gendr" if "gendr" in config.restorers else "gendr-adc").vae, dataset)
    if not found:
        return {}
    return {"psnr_rgb_db": mean_interval(list(found.values())).to_dict(), "pictures": found}


def to_row(method: Method, case: Case, record: Record) -> Row:
    """The figures of a record, without its pictures."""
    return Row(
        restorer=method.name,
        label=method.label,
        picture=case.name,
        width_px=record.size[0],
        height_px=record.size[1],
        degradation=case.plan,
        seconds=record.seconds,
        peak_bytes=None if record.peak is None else record.peak.bytes,
        device=record.device,
        dtype=record.dtype,
        values=dict(record.scores.values),
        missing=dict(record.scores.missing),
    )


@torch.inference_mode()
def reconstruct(autoencoder: Autoencoder, pixels: Tensor) -> Tensor:
    """D(E(x)): (1, 3, H, W) float in [-1, 1], sides multiples of 8 => the same on the CPU, clamped."""
    codec = LatentCodec(autoencoder)
    return codec.decode(codec.encode(pixels.to(autoencoder.device, autoencoder.dtype))).float().cpu().clamp(-1, 1)


def reconstruction_psnr(autoencoder: Autoencoder, dataset: EvaluationDataset) -> dict[str, float]:
    """Picture => PSNR in dB over R, G and B of D(E(truth)), rounded to 8 bits; whole pictures, no border crop.

    Truths are cropped at bottom and right to multiples of 8. Those smaller than that are left out.
    """
    found = {}
    for case in dataset:
        assert case.truth is not None
        height, width = (side - side % PATCH for side in case.truth.color.shape[-2:])
        if min(height, width) < PATCH:
            continue
        truth = case.truth.color[..., :height, :width]
        rounded = open_picture(to_pil(reconstruct(autoencoder, truth))).color
        found[case.name] = float(psnr(rounded, truth))
    return found

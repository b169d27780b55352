"""`python -m training evaluate`: restorers and peers over a set of pictures, as tables with confidence intervals.

Everything is scored as it would be saved, rounded to 8 bits, without a border crop. Truths are cropped at bottom and
right to multiples of the scale before they are degraded.
"""

from __future__ import annotations

import json
import logging
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import PIL.Image
import torch
from tqdm.auto import tqdm

from gendrpix import __version__
from gendrpix.attention import AttentionKind
from gendrpix.compare import CompareSettings, Record, RestorerCache, describe_device
from gendrpix.devices import pick_device, pick_dtype
from gendrpix.images import open_picture, save_png
from gendrpix.plots import save_figure
from gendrpix.report import Table
from gendrpix.scores import METRICS, LpipsNet, Scorer
from gendrpix.specs import COMPARED_OMEGA, NEG_PAD, POS_PAD, Offset
from gendrpix.writing import write_text
from training.cases import Case, Cases, degraded_cases, paired_cases, photo_cases
from training.entrants import RESIZERS, TRUTH, Choice, Entrant, make_entrants, output_entrants, truth_entrant
from training.sheets import find_crop, pick_pictures, plot_intervals, stack_rows
from training.tables import (
    CONFIDENCE,
    NUM_RESAMPLES,
    CsvTable,
    Row,
    difference_table,
    incomplete_notes,
    summary_table,
    to_document,
)

logger = logging.getLogger(__name__)

FILES = ("scores.csv", "scores.json", "scores.md", "intervals.png", "crops.png")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated, on what, and where the tables go. Give exactly one of truths, pairs and photos."""

    out: Path
    """Folder for scores.csv (a line a picture), scores.json, scores.md, intervals.png and crops.png."""
    truths: Path | None = None
    """Folder of ground truths, which are degraded here."""
    pairs: Path | None = None
    """Folder with lq and hq, which hold inputs and ground truths of the same names."""
    photos: Path | None = None
    """Folder of real pictures without a truth."""
    degradation: str = "bicubic"
    """For truths: "bicubic" (clean), "mild", "photo", "adcsr" or "real-esrgan"."""
    seed: int = 0
    """For truths: seed of the degradation."""
    scale: int = 4
    """How many times larger the results are."""
    pictures: int = 0
    """Use that many, evenly spread over the sorted names; 0 uses all."""
    restorers: tuple[Choice, ...] = ("bicubic", "lanczos", "gendr", "gendr-adc", "gendr-pix", "gendr-pix*")
    """Which; bicubic and, where there is one, the truth are always shown. gendr-pix* is gendr-pix without guidance."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id."""
    guidance: tuple[float, ...] = (COMPARED_OMEGA,)
    """PadCFG's omega for gendr-pix; several give a line each."""
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    plain_cfg: bool = False
    """Guide without offsets."""
    attention: tuple[AttentionKind, ...] = ()
    """Kinds of self-attention; several give a line each, RESTORER/KIND. None is as loaded, auto."""
    outputs: tuple[str, ...] = ()
    """NAME=FOLDER of ready-made results, named as the inputs are: published ones, or another program's."""
    common: bool = False
    """Use only the pictures that every folder of outputs has."""
    metrics: tuple[str, ...] = tuple(METRICS)
    """Which metrics; those whose weights cannot be had are left out with the reason."""
    lpips_net: LpipsNet = "alex"
    """LPIPS's trunk."""
    against: str = ""
    """Whom the paired differences are taken to; gendr where it is evaluated, else bicubic."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    repeats: int = 1
    """Counted runs of each restorer on each picture; the time is their median. Each size is warmed up once."""
    crops: int = 6
    """Pictures on the sheet of crops, half of them the worst; 0 makes no sheet."""
    crop_px: int = 128
    """Side of the crops, in pixels of the result."""
    save_results: bool = False
    """Keep every result as PNG in out/results/NAME."""
    overwrite: bool = False
    """Replace an earlier evaluation in the same folder."""

    def __post_init__(self) -> None:
        given = [name for name in ("truths", "pairs", "photos") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"Expected exactly one of --truths, --pairs and --photos; got {' and '.join(given) or 'none'}."
            )
        if self.crops < 0 or self.crop_px < 8:
            raise ValueError(f"crops is {self.crops} and crop_px {self.crop_px}; expected at least 0 and at least 8.")


def evaluate(config: EvaluateConfig) -> Path:
    """Run and score everything, write all files, and give back the Markdown's path.

    Raises ValueError for settings or folders that do not fit, before anything is restored where that can be told.
    """
    targets = {name: config.out / name for name in FILES}
    taken = [path for path in targets.values() if path.exists()]
    if taken and not config.overwrite:
        raise ValueError(f"{taken[0]} exists already; choose another --out or pass --overwrite.")
    entrants, cases = prepare(config)
    against = choose_reference(config.against, entrants)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # pyiqa loads the trunks by an older argument
        scorer = Scorer(config.metrics, device=pick_device(config.device), lpips_net=config.lpips_net)
        for reason in filter(None, map(scorer.unavailable, scorer.names)):
            logger.warning("%s", reason)
    config.out.mkdir(parents=True, exist_ok=True)
    with targets["scores.csv"].open("w", encoding="utf-8", newline="") as file:
        rows = score_all(entrants, cases, scorer, CsvTable(file, scorer.names), results_folder(config))
    headings = make_headings(scorer)
    header = describe(config, cases, entrants, rows, scorer)
    document = to_document(rows, header, against)
    write_text(targets["scores.json"], json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    write_text(targets["scores.md"], to_markdown(rows, header, against, headings))
    if any(row.values for row in rows):
        save_figure(plot_intervals(rows, headings, f"{cases.label}: mean and 95% interval"), targets["intervals.png"])
    if config.crops:
        sheet = make_sheet(entrants, cases, rows, config.crops, config.crop_px)
        save_png(sheet, targets["crops.png"], overwrite=True)
    return targets["scores.md"]


def prepare(config: EvaluateConfig) -> tuple[list[Entrant], Cases]:
    """Who competes, weights loaded, and on what."""
    cases = open_cases(config)
    settings = CompareSettings(
        scale=float(config.scale),
        pos_pad=config.pos_pad,
        neg_pad=config.neg_pad,
        plain_cfg=config.plain_cfg,
        repeats=config.repeats,
    )
    peers, cases = output_entrants(config.outputs, cases, settings, common=config.common)
    cases = cases.spread(config.pictures)
    cache = RestorerCache(config.weights, device=pick_device(config.device), dtype=pick_dtype(config.dtype))
    entrants = make_entrants(
        config.restorers, guidance=config.guidance, settings=settings, cache=cache, attention=config.attention
    )
    truth = [truth_entrant(settings)] if cases.has_truth else []
    return [*truth, *entrants, *peers], cases


def open_cases(config: EvaluateConfig) -> Cases:
    """The set that the settings name."""
    if config.truths is not None:
        return degraded_cases(config.truths, degradation=config.degradation, seed=config.seed, scale=config.scale)
    if config.pairs is not None:
        return paired_cases(config.pairs, scale=config.scale)
    assert config.photos is not None
    return photo_cases(config.photos, scale=config.scale)


def choose_reference(asked: str, entrants: Sequence[Entrant]) -> str:
    """Whom differences are taken to. Raises ValueError for somebody who is not there."""
    names = [entrant.name for entrant in entrants if entrant.name != TRUTH]
    if asked and asked not in names:
        raise ValueError(f"--against is {asked!r}; expected one of {', '.join(names)}.")
    return asked or ("gendr" if "gendr" in names else names[0])


def results_folder(config: EvaluateConfig) -> Path | None:
    """Where results are kept, if they are."""
    return config.out / "results" if config.save_results else None


def score_all(
    entrants: Sequence[Entrant], cases: Cases, scorer: Scorer, table: CsvTable | None = None, keep: Path | None = None
) -> list[Row]:
    """Every entrant on every case, picture by picture; each row goes to `table` as soon as it is there.

    keep: folder for the results as PNG, one folder a restorer.
    """
    rows = []
    with tqdm(total=len(cases) * len(entrants), desc=cases.label, disable=None) as bar:
        for case in cases:
            for entrant in entrants:
                record = entrant.run(case, scorer)
                row = to_row(entrant, case, record)
                rows.append(row)
                if table is not None:
                    table.add(row)
                if keep is not None and entrant.computes:
                    folder = keep / entrant.name.replace("*", "-star")
                    folder.mkdir(parents=True, exist_ok=True)
                    save_png(record.image, folder / f"{case.name}.png", overwrite=True)
                bar.update()
    return rows


def to_row(entrant: Entrant, case: Case, record: Record) -> Row:
    """The figures of a record, without its pictures."""
    return Row(
        restorer=entrant.name,
        label=entrant.label,
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


# What is written ---------------------------------------------------------------------------------------------------


def make_headings(scorer: Scorer) -> dict[str, str]:
    """Metric => column heading, with LPIPS's trunk."""
    return {name: METRICS[name].heading.replace(METRICS[name].label, scorer.label(name)) for name in scorer.names}


def describe(
    config: EvaluateConfig, cases: Cases, entrants: Sequence[Entrant], rows: Sequence[Row], scorer: Scorer
) -> dict[str, Any]:
    """How the figures were made: set, weights, device, versions. Folders by name only."""
    sizes = sorted({(row.width_px, row.height_px) for row in rows})
    computed = [row for row in rows if row.dtype]
    place = Path(config.weights)
    return {
        "gendrpix": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "set": cases.label,
        "num_pictures": len(cases),
        "sizes_px": [f"{width} x {height}" for width, height in sizes],
        "scale": cases.scale,
        "weights": place.resolve().name if place.is_dir() else config.weights,
        "weights_sha256": {entrant.name: entrant.weights for entrant in entrants if entrant.weights},
        "labels": {entrant.name: entrant.label for entrant in entrants},
        "guidance": list(config.guidance),
        "pos_pad": config.pos_pad,
        "neg_pad": config.neg_pad,
        "plain_cfg": config.plain_cfg,
        "attention": list(config.attention) or ["as loaded"],
        "device": computed[0].device if computed else describe_device(torch.device("cpu")),
        "dtype": computed[0].dtype if computed else "float32",
        "repeats": config.repeats,
        "lpips_net": config.lpips_net,
        "metrics": list(scorer.names),
    }


def to_markdown(rows: Sequence[Row], header: Mapping[str, Any], against: str, headings: Mapping[str, str]) -> str:
    """The report: how it was made, the means, the paired differences, what is missing and why."""
    sizes = header["sizes_px"]
    shown = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"
    digests = ", ".join(f"{name} `{digest}`" for name, digest in header["weights_sha256"].items())
    lines = [
        f"# {header['set']}",
        "",
        f"{header['num_pictures']} pictures, results of {shown} px. Weights: "
        + (f"{header['weights']} ({digests})." if digests else "none."),
        f"Time is warm wall time a picture on {header['device']}, {header['dtype']}; gendrpix {header['gendrpix']}, "
        f"torch {header['torch']}. Peak memory is without weights, except on CUDA.",
        "",
        summary_table(rows, headings).to_markdown(),
        "",
    ]
    compared: Table = difference_table(rows, against, headings)
    if compared.rows:
        lines += ["Paired differences, picture by picture:", "", compared.to_markdown(), ""]
    notes = [
        f"Means with {CONFIDENCE:.0%} percentile bootstrap intervals over pictures ({NUM_RESAMPLES:,} resamples).",
        "PSNR and SSIM on Y (BT.601), no border crop; everything is scored rounded to 8 bits.",
        "The grid score shows a pattern of 8 pixels: compare it with the truth's; a high one casts doubt on the rest.",
        *incomplete_notes(rows),
    ]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def make_sheet(
    entrants: Sequence[Entrant], cases: Cases, rows: Sequence[Row], count: int, crop_px: int
) -> PIL.Image.Image:
    """Crops of the chosen pictures, restored once more. The last restorer asked for chooses pictures and crops."""
    judged = choose_judged(entrants)
    silent = Scorer(())
    stacked = []
    for name, why in pick_pictures(rows, judged.name, count).items():
        case = cases.open(name)
        images = {entrant.label: entrant.run(case, silent).image.convert("RGB") for entrant in entrants}
        result = open_picture(images[judged.label]).color
        crop = find_crop(result, None if case.truth is None else case.truth.color, crop_px)
        if entrants[0].name == TRUTH:  # read from left to right: from the input to the truth
            images[entrants[0].label] = images.pop(entrants[0].label)
        stacked.append((f"{name} ({judged.label}, {why})" if why else name, images, crop))
    return stack_rows(stacked)


def choose_judged(entrants: Sequence[Entrant]) -> Entrant:
    """The last entrant that is more than a resizer; the last of all where there is none."""
    networks = [entrant for entrant in entrants if entrant.name != TRUTH and entrant.name not in RESIZERS]
    return (networks or list(entrants))[-1]

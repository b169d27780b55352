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
from typing import Any, Literal

from tqdm.auto import tqdm

from gendrpix.comparison.comparison import Record
from gendrpix.devices import pick_device, pick_dtype
from gendrpix.files import write_text
from gendrpix.image.write import save_png
from gendrpix.metrics.registry import METRICS, LpipsNet
from gendrpix.metrics.scorer import Scorer
from gendrpix.models.attention import AttentionKind
from gendrpix.report.plots import save_figure
from gendrpix.restore.cache import RestorerCache
from gendrpix.settings.restoration import CompareSettings
from gendrpix.specs import COMPARED_OMEGA, NEG_PAD, POS_PAD, Offset
from training.cases import Case, Cases, Degrading, degraded_cases, held_out_cases, paired_cases, photo_cases
from training.entrants import (
    RESIZERS,
    TRUTH,
    Choice,
    Entrant,
    baseline_entrants,
    make_entrants,
    output_entrants,
    truth_entrant,
)
from training.evaluate_report import describe, make_headings, to_markdown
from training.reconstruction import reconstruction_psnr
from training.sheets import Cuts, plot_intervals
from training.tables import (
    CsvTable,
    Row,
    bootstrap,
    to_document,
)

logger = logging.getLogger(__name__)

SOURCES = ("truths", "held_out", "pairs", "photos")
FILES = ("scores.csv", "scores.json", "scores.md", "intervals.png", "crops.png")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated, on what, and where the tables go. Give exactly one of truths, held_out, pairs and photos."""

    out: Path
    """Folder for scores.csv (a line a picture), scores.json, scores.md, intervals.png and crops.png."""
    truths: Path | None = None
    """Folder of ground truths, which are degraded here."""
    held_out: Path | None = None
    """Folder of training photos, of which those are taken that training with it holds out; degraded here."""
    pairs: Path | None = None
    """Folder with lq and hq, which hold inputs and ground truths of the same names."""
    photos: Path | None = None
    """Folder of real pictures without a truth."""
    degradation: str = "bicubic"
    """For truths and held-out photos: "bicubic" (clean), "mild", "photo", "camera", "adcsr" or "real-esrgan"."""
    seed: int = 0
    """For truths and held-out photos: seed of the degradation."""
    most_px: int = 0
    """For truths and held-out photos: take their middle, at most that many pixels a side; 0 takes the whole."""
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
    baselines: tuple[str, ...] = ()
    """NAME=PLACE, networks of others, run and timed here: a .safetensors, .pth, .param or .onnx file, or the name of
    one in GENDRPIX_BASELINES."""
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
    timing: bool = True
    """Show time and memory. Without, nothing is warmed up: half the work where pictures are of many sizes."""
    reconstruction: bool = True
    """Also score the autoencoder alone on the truths, where a restorer that uses it takes part."""
    crops: int = 6
    """Pictures on the sheet of crops, half of them the worst; 0 makes no sheet."""
    crop_px: int = 128
    """Side of the crops, in pixels of the result; shown enlarged a whole number of times to about 256 pixels."""
    crop_columns: int = 0
    """Crops side by side, the others below them; 0 puts all of a picture into one row."""
    save_results: bool = False
    """Keep every result as PNG in out/results/NAME."""
    overwrite: bool = False
    """Replace an earlier evaluation in the same folder."""

    def __post_init__(self) -> None:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            *first, last = (f"--{name.replace('_', '-')}" for name in SOURCES)
            got = " and ".join(given) or "none"
            raise ValueError(f"Expected exactly one of {', '.join(first)} and {last}; got {got}.")
        if self.most_px < 0:
            raise ValueError(f"most_px is {self.most_px}; expected 0 for whole pictures, or more.")
        if self.crops < 0 or self.crop_px < 8 or self.crop_columns < 0:
            raise ValueError(
                f"crops is {self.crops}, crop_px {self.crop_px} and crop_columns {self.crop_columns}; expected at "
                "least 0, 8 and 0."
            )


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
    entrants, cases = prepare(config, loaded.cache)
    against, judged = choose_reference(config.against, entrants), choose_judged(entrants)
    cuts = Cuts(judged.name, config.crop_px) if config.crops else None
    config.out.mkdir(parents=True, exist_ok=True)
    with targets["scores.csv"].open("w", encoding="utf-8", newline="") as file:
        table = CsvTable(file, scorer.names)
        rows = score_all(entrants, cases, scorer, table, results_folder(config), cuts=cuts, timing=config.timing)
    headings = make_headings(scorer)
    header = describe(config, cases, entrants, rows, scorer)
    if config.reconstruction and cases.has_truth and {"gendr", "gendr-adc"}.intersection(config.restorers):
        header["autoencoder"] = score_autoencoder(config, cases, loaded.cache)
    document = to_document(rows, header, against)
    write_text(targets["scores.json"], json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    write_text(targets["scores.md"], to_markdown(rows, header, against, headings))
    if any(row.values for row in rows):
        save_figure(plot_intervals(rows, headings, f"{cases.label}: mean and 95% interval"), targets["intervals.png"])
    if cuts:
        sheet = cuts.sheet(rows, judged.label, config.crops, columns=config.crop_columns)
        save_png(sheet, targets["crops.png"], overwrite=True)
    return targets["scores.md"]


def prepare(config: EvaluateConfig, cache: RestorerCache) -> tuple[list[Entrant], Cases]:
    """Who competes, weights loaded, and on what."""
    cases = open_cases(config)
    settings = CompareSettings(
        scale=float(config.scale),
        pos_pad=config.pos_pad,
        neg_pad=config.neg_pad,
        plain_cfg=config.plain_cfg,
        warmup=1 if config.timing else 0,
        repeats=config.repeats,
    )
    networks = baseline_entrants(config.baselines, settings, cache.device)
    peers, cases = output_entrants(config.outputs, cases, settings, common=config.common, others=networks)
    cases = cases.spread(config.pictures)
    entrants = make_entrants(
        config.restorers, guidance=config.guidance, settings=settings, cache=cache, attention=config.attention
    )
    truth = [truth_entrant(settings)] if cases.has_truth else []
    return [*truth, *entrants, *networks, *peers], cases


def open_cases(config: EvaluateConfig) -> Cases:
    """The set that the settings name."""
    how = Degrading(degradation=config.degradation, seed=config.seed, scale=config.scale, most_px=config.most_px)
    if config.truths is not None:
        return degraded_cases(config.truths, how)
    if config.held_out is not None:
        return held_out_cases(config.held_out, how)
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


def choose_judged(entrants: Sequence[Entrant]) -> Entrant:
    """Whose results choose the pictures and crops of the sheet: the last with weights of ours, else the last of all
    but the truth and the resizers, else the last."""
    own = [entrant for entrant in entrants if entrant.weights]
    others = [entrant for entrant in entrants if entrant.name != TRUTH and entrant.name not in RESIZERS]
    return (own or others or list(entrants))[-1]


def results_folder(config: EvaluateConfig) -> Path | None:
    """Where results are kept, if they are."""
    return config.out / "results" if config.save_results else None


def score_all(
    entrants: Sequence[Entrant],
    cases: Cases,
    scorer: Scorer,
    table: CsvTable | None = None,
    keep: Path | None = None,
    *,
    cuts: Cuts | None = None,
    timing: bool = True,
) -> list[Row]:
    """Every entrant on every case, picture by picture; each row goes to `table` as soon as it is there.

    keep: folder for the results as PNG, one folder a restorer. cuts: takes a crop of each result. timing: False leaves
    time and memory out of the rows.
    """
    rows = []
    labels = {entrant.name: entrant.label for entrant in entrants}
    with setting_aside(), tqdm(total=len(cases) * len(entrants), desc=cases.label, disable=None) as bar:
        for case in cases:
            records = {}
            for entrant in entrants:
                record = records[entrant.name] = entrant.run(case, scorer)
                row = to_row(entrant, case, record)
                if not timing:
                    row = dataclasses.replace(row, seconds=None, peak_bytes=None)
                rows.append(row)
                if table is not None:
                    table.add(row)
                if keep is not None and entrant.computes:
                    folder = keep / entrant.name.replace("*", "-star")
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


def score_autoencoder(config: EvaluateConfig, cases: Cases, cache: RestorerCache) -> dict[str, Any]:
    """The autoencoder's own RGB PSNR on the truths: the interval over pictures, and each picture's."""
    found = reconstruction_psnr(cache("gendr" if "gendr" in config.restorers else "gendr-adc").vae, cases)
    if not found:
        return {}
    return {"psnr_rgb_db": bootstrap(list(found.values())).to_dict(), "pictures": found}


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

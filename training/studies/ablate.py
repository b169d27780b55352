"""`python -m training ablate`: the ablation tables of arXiv 2602.10630, again, from one spec at equal budgets.

Every student of stage II is trained from the same GenDR and GenDR-Adc, with the same seed, data and number of steps,
and differs in one setting. A line that is finished is not computed again; one that was interrupted goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gendrpix.devices import pick_device
from gendrpix.files import make_folder, write_text
from gendrpix.metrics.registry import BUNDLED_LPIPS_NET, METRICS, LpipsNet
from gendrpix.metrics.scorer import Scorer
from gendrpix.report.tables import DASH, Table
from gendrpix.restore.cache import RestorerCache
from gendrpix.settings.restoration import CompareSettings
from gendrpix.specs import NEG_PAD, POS_PAD, Offset
from gendrpix.weights.load import find_restorer_folder
from training.config import DataConfig, PixConfig
from training.evaluation.datasets import Degrading, EvaluationDataset, degraded_dataset, held_out_dataset
from training.evaluation.evaluate import score_all
from training.evaluation.methods import Method, open_methods
from training.evaluation.report import cautions, incomplete_notes, make_headings
from training.evaluation.statistics import INTERVALS, Interval, Row, mean_interval, summarise
from training.presets import PRESETS
from training.stages import pix

logger = logging.getLogger(__name__)

Verdict = Literal["holds", "does not hold", "undecided"]
FULL = "adc-randpad"

STUDENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "none": ("no discriminator", {"backbone": "none"}),
    "gendr": ("features of GenDR", {"backbone": "gendr", "randpad": False}),
    "adc": ("features of GenDR-Adc", {"backbone": "adc", "randpad": False}),
    FULL: ("features of GenDR-Adc, RandPad", {"backbone": "adc", "randpad": True}),
    "no-mfs": ("the same without MFS", {"backbone": "adc", "randpad": True, "mfs_weight": 0.0}),
    "again": ("the same as with RandPad, another seed", {"backbone": "adc", "randpad": True, "seed": 1}),
}
"""Name => what a reader sees, and the settings of stage II that it changes; `seed` is added to the run's."""

PRECISIONS = {"no": "float32", "bf16": "bfloat16 autocast", "fp16": "float16 autocast"}
OTHER_OFFSETS: tuple[tuple[Offset, Offset], ...] = (((4, 4), (4, 4)), ((4, 4), (0, 0)), ((2, 2), (1, 1)))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a student, how it is run, and what the paper says of it."""

    name: str
    label: str
    student: str
    guided: bool = False
    plain_cfg: bool = False
    pos_pad: Offset = POS_PAD
    neg_pad: Offset = NEG_PAD
    paper: str = DASH
    """The paper's figures."""
    claim: tuple[str, str] | None = None
    """(better, worse): the names of the two lines whose order the paper gives; None for a line to compare with."""


def _student(name: str, paper: str, better_than: str = "") -> Line:
    claim = (name, better_than) if better_than else None
    return Line(name=name, label=STUDENTS[name][0], student=name, paper=paper, claim=claim)


def _offsets(pos_pad: Offset, neg_pad: Offset) -> Line:
    name = f"offsets-{pos_pad[0]}{pos_pad[1]}-{neg_pad[0]}{neg_pad[1]}"
    label = f"offsets {pos_pad} and {neg_pad}"
    return Line(
        name=name, label=label, student=FULL, guided=True, pos_pad=pos_pad, neg_pad=neg_pad, claim=("padcfg", name)
    )


PADCFG = Line(
    name="padcfg",
    label=f"PadCFG, offsets {POS_PAD} and {NEG_PAD}",
    student=FULL,
    guided=True,
    paper="MUSIQ +0.45, CLIPIQA +.0061",
    claim=("padcfg", "plain-cfg"),
)
TABLES: Mapping[str, tuple[Line, ...]] = {
    "discriminator": (
        _student("none", "MUSIQ 60.95, CLIPIQA .4924"),
        _student("gendr", "MUSIQ 61.07, CLIPIQA .5457", "none"),
        _student("adc", "MUSIQ 63.87, CLIPIQA .5764", "gendr"),
        _student(FULL, "MUSIQ 63.89, CLIPIQA .5937", "adc"),
    ),
    "mfs": (_student("no-mfs", "NIQE 4.84"), _student(FULL, "NIQE 4.11", "no-mfs")),
    "guidance": (Line(name="plain-cfg", label="plain CFG", student=FULL, guided=True, plain_cfg=True), PADCFG),
    "offsets": (
        dataclasses.replace(PADCFG, paper="its choice, made by hand", claim=None),
        *(_offsets(*pads) for pads in OTHER_OFFSETS),
    ),
    "seed": (_student(FULL, DASH), _student("again", DASH)),
}
"""The tables by name. A line that stands in two of them is computed once. `seed` claims nothing: it shows how far
chance alone moves a student."""


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Which tables, on what, and for how long."""

    run: Path
    """Folder for everything: students, their scores, targets, ablation.md and ablation.csv."""
    data: DataConfig = field(default_factory=DataConfig)
    budget: int = 1000
    """Optimiser steps of each student."""
    batch: int = 4
    seed: int = 0
    fit_crops: int = 512
    """Crops to which each student's `conv_out` is fitted before it is trained."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    preset: Literal["mini", "sd21"] = "mini"
    """Preset of `pix` from which the students differ in one setting each."""
    model: str = ""
    """Model family; empty: the preset's."""
    weights: str = "mini"
    """A bundled family, a folder or a hub id, with the GenDR and the GenDR-Adc to start from."""
    tables: tuple[str, ...] = tuple(TABLES)
    guidance: float = 1.5
    """PadCFG's omega, for the lines with guidance; students are compared unguided."""
    truths: Path | None = None
    """Folder of ground truths to evaluate on. None: the data's held-out photos."""
    pictures: int = 0
    """Use that many, evenly spread; 0 uses all."""
    metrics: tuple[str, ...] = ("psnr", "lpips", "niqe", "piqe", "grid")
    judged: tuple[str, ...] = ("lpips", "grid")
    """Metrics that decide whether a claim holds. The paper's MUSIQ and CLIPIQA may be named where they can be had."""
    lpips_net: LpipsNet = BUNDLED_LPIPS_NET
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.tables if name not in TABLES]:
            raise ValueError(f"Unknown table {unknown[0]!r}; expected some of {', '.join(TABLES)}.")
        if unjudged := [name for name in self.judged if name not in self.metrics]:
            raise ValueError(f"{unjudged[0]} is judged, but not among the metrics; add it to --metrics.")
        if self.budget < 1:
            raise ValueError(f"budget is {self.budget}; expected at least 1 step.")


def ablate(config: AblateConfig) -> Path:
    """Train and score what is missing, write both files, and give back the Markdown's path."""
    _check_spec(config)
    dataset = open_dataset(config)
    scorer = Scorer(config.metrics, device=pick_device(config.device), lpips_net=config.lpips_net)
    lines = {line.name: line for table in config.tables for line in TABLES[table]}
    rows = {name: score_line(config, line, dataset, scorer) for name, line in lines.items()}
    written = config.run / "ablation.md"
    write_text(config.run / "ablation.csv", to_csv(config, rows))
    write_text(written, to_markdown(config, rows, dataset, make_headings(scorer)))
    return written


def _check_spec(config: AblateConfig) -> None:
    """Keep the settings in the folder. Raises ValueError where it belongs to others; tables may be added."""
    settings = dataclasses.asdict(config)
    del settings["tables"], settings["run"], settings["judged"]
    told = json.loads(json.dumps(settings, default=str))
    file = config.run / "ablation.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        changed = [name for name in told if told[name] != kept.get(name)]
        if changed:
            raise ValueError(
                f"{config.run} was begun with {changed[0]} {kept.get(changed[0])} and now gets {told[changed[0]]}; "
                "all lines must be alike. Give another --run."
            )
        return
    make_folder(config.run)
    write_text(file, json.dumps(told, indent=2) + "\n")


def open_dataset(config: AblateConfig) -> EvaluationDataset:
    """The truths to evaluate on, degraded as in training."""
    how = Degrading(degradation=config.data.degradation, seed=config.seed, scale=config.data.scale)
    if config.truths is not None:
        return degraded_dataset(config.truths, how).spread(config.pictures)
    return held_out_dataset(config.data.folder, how, shortest_px=config.data.crop_px).spread(config.pictures)


# Lines ----------------------------------------------------------------------------------------------------------------


def student_config(config: AblateConfig, name: str) -> PixConfig:
    """The settings of one student: the preset's, the budget, and its own difference."""
    preset = PRESETS["pix"][config.preset]
    assert isinstance(preset, PixConfig)
    loop = dataclasses.replace(
        preset.loop,
        steps=config.budget,
        batch=config.batch,
        mixed_precision=config.mixed_precision,
        checkpoint_every=max(1, config.budget // 4),
        keep_checkpoints=1,
        sample_every=0,
        tracker="none",
    )
    changes = dict(STUDENTS[name][1])
    loop = dataclasses.replace(loop, seed=config.seed + changes.pop("seed", 0))
    plain: dict[str, Any] = {
        "model": config.model or preset.model,
        "run": config.run / "students" / name,
        "data": config.data,
        "loop": loop,
        "teacher": str(find_restorer_folder("gendr", config.weights)),
        "adc": str(find_restorer_folder("gendr-adc", config.weights)),
        "target_cache": config.run / "targets",
        "fit_crops": config.fit_crops,
        "finish_crops": 0,  # a fit of the last layer to the truth would wash out what the terms have done
    }
    return dataclasses.replace(preset, **{**plain, **changes})


def train_student(config: AblateConfig, name: str) -> Path:
    """The weights of one student, trained unless they are there."""
    settings = student_config(config, name)
    weights = settings.run / "weights"
    if not (weights / "gendr-pix" / "model_index.json").is_file():
        logger.info("ablate: training %s (%s)", name, STUDENTS[name][0])
        pix.train(settings)
    return weights


def score_line(config: AblateConfig, line: Line, dataset: EvaluationDataset, scorer: Scorer) -> list[Row]:
    """The line's figures on every picture, computed unless they are there."""
    file = config.run / "scores" / f"{line.name}.json"
    if file.is_file():
        return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    method = open_entrant(config, line, train_student(config, line.student))
    rows = score_all([method], dataset, scorer)
    make_folder(file.parent)
    write_text(file, json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    return rows


def open_entrant(config: AblateConfig, line: Line, weights: Path) -> Method:
    """The line as an evaluation's method, unguided or guided as the line says."""
    settings = CompareSettings(
        scale=float(config.data.scale),
        pos_pad=line.pos_pad,
        neg_pad=line.neg_pad,
        plain_cfg=line.plain_cfg,
        warmup=0,
    )
    cache = RestorerCache(weights, device=pick_device(config.device))
    choice = "gendr-pix" if line.guided else "gendr-pix*"
    method = open_methods((choice,), guidance=(config.guidance,), settings=settings, cache=cache)[-1]
    return dataclasses.replace(method, name=line.name, label=line.label)


# Verdicts -------------------------------------------------------------------------------------------------------------


def advantages(better: Sequence[Row], worse: Sequence[Row], metrics: Sequence[str]) -> dict[str, Interval]:
    """Metric => interval of the paired differences, turned so that a positive one speaks for the claim."""
    others = {row.picture: row.values for row in worse}
    found = {}
    for metric in metrics:
        sign = 1 if METRICS[metric].higher_is_better else -1
        pairs = [(row.values.get(metric), others.get(row.picture, {}).get(metric)) for row in better]
        gains = [sign * (one - other) for one, other in pairs if one is not None and other is not None]
        if gains:
            found[metric] = mean_interval(gains)
    return found


def decide(interval: Interval) -> Verdict:
    """What one metric says: its interval lies above zero, below zero, or around it (or is none)."""
    if interval.low > 0:
        return "holds"
    return "does not hold" if interval.high < 0 else "undecided"


def decide_all(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim holds where at least one metric says so and none says the contrary; and the other way round."""
    said = set(verdicts) - {"undecided"}
    return next(iter(said)) if len(said) == 1 else "undecided"


# What is written ------------------------------------------------------------------------------------------------------


def to_csv(config: AblateConfig, rows: Mapping[str, Sequence[Row]]) -> str:
    """A line a table, line and metric: mean, interval, advantage with its interval, verdict, the paper's figures."""
    file = io.StringIO()
    writer = csv.writer(file)
    columns = ("mean", "low", "high", "advantage", "advantage_low", "advantage_high", "verdict")
    writer.writerow(("table", "line", "metric", *columns, "better", "worse", "paper"))
    for table in config.tables:
        for line in TABLES[table]:
            better, worse = line.claim or ("", "")
            gains = advantages(rows[better], rows[worse], config.metrics) if line.claim else {}
            for metric, mean in summarise(rows[line.name]).get(line.name, {}).items():
                gain = gains.get(metric)
                judged = (gain.mean, gain.low, gain.high, decide(gain)) if gain else ("",) * 4
                figures = (mean.mean, mean.low, mean.high, *judged)
                writer.writerow((table, line.name, metric, *figures, better, worse, line.paper))
    return file.getvalue()


def to_markdown(
    config: AblateConfig, rows: Mapping[str, Sequence[Row]], dataset: EvaluationDataset, headings: Mapping[str, str]
) -> str:
    """Every table with the paper's figures beside ours and a verdict for every line that makes a claim."""
    origin = "their own" if Path(config.weights).is_dir() else config.weights
    text = [
        "# Ablations",
        "",
        f"Students of stage II, preset `{config.preset}`: {config.budget:,} steps of {config.batch} crops each, seed "
        f"{config.seed}, {PRECISIONS[config.mixed_precision]}, from the same GenDR and GenDR-Adc (weights: {origin}). "
        f"Evaluated on {len(dataset)} pictures: {dataset.label}. Guided lines have omega {config.guidance:g}.",
        "",
    ]
    for table in config.tables:
        text += [f"## {table.capitalize()}", "", _table(config, table, rows, headings).to_markdown(), ""]
    every = [row for of_one in rows.values() for row in of_one]
    notes = [
        f"Means with {INTERVALS} They tell how far other pictures would move the figures, not how far another "
        "seed would: one run a line."
        + (
            " The table Seed shows one other seed: a smaller difference than that one proves nothing."
            if "seed" in config.tables
            else ""
        ),
        "The paper's figures are of the full size on other data: compare directions, not values.",
        f"Judged on {', '.join(METRICS[name].label for name in config.judged)}, on the paired differences picture by "
        "picture. A metric holds where the whole interval speaks for the claim. A claim holds where at least one "
        "metric holds and none speaks against it; where metrics contradict each other it is undecided.",
        *cautions(every),
        *incomplete_notes(every),
    ]
    return "\n".join([*text, *(f"- {note}" for note in notes), ""])


def _table(config: AblateConfig, table: str, rows: Mapping[str, Sequence[Row]], headings: Mapping[str, str]) -> Table:
    shown = [name for name in headings if any(name in row.values for of_one in rows.values() for row in of_one)]
    lines = []
    for line in TABLES[table]:
        means = summarise(rows[line.name]).get(line.name, {})
        cells = [means[name].to_text(METRICS[name].digits) if name in means else DASH for name in shown]
        lines.append((line.label, *cells, line.paper, *_verdict(config, line, rows)))
    header = ("", *(headings[name] for name in shown), "Paper", "Claim", "Verdict")
    return Table(header=header, rows=tuple(lines))


def _verdict(config: AblateConfig, line: Line, rows: Mapping[str, Sequence[Row]]) -> tuple[str, str]:
    """The claim in words, and what became of it, metric by metric."""
    if line.claim is None:
        return DASH, DASH
    better, worse = line.claim
    said = {metric: decide(gain) for metric, gain in advantages(rows[better], rows[worse], config.judged).items()}
    parts = "; ".join(f"{METRICS[metric].label} {verdict}" for metric, verdict in said.items())
    return f"{better} better than {worse}", f"{decide_all(list(said.values()))} ({parts or 'nothing measured'})"

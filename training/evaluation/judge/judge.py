"""`python -m training judge`: results for real photos without a truth, as figures, sheets to look at, and a vote.

Everything is judged as it would be saved, in 8 bits. What decides is the vote of people or of models that read
pictures, on pairs without names; figures go beside it. `--count` counts the votes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from gendrpix.devices import pick_device
from gendrpix.files import make_folder, write_text
from gendrpix.image.resize import output_size
from gendrpix.metrics.grid import GRID_MIN_PX
from gendrpix.metrics.scorer import Scorer
from training.evaluation.datasets import Case, EvaluationDataset, photo_dataset
from training.evaluation.judge.config import JudgeConfig
from training.evaluation.judge.count import count_votes
from training.evaluation.judge.figures import Judgement, detail_distance, find_calm, luma_of, noise_level
from training.evaluation.judge.methods import make_methods
from training.evaluation.judge.page import Judged, to_csv, to_document, write_page
from training.evaluation.judge.sheets import Sheets
from training.evaluation.judge.vote import Ballot, draw_places, split_votes
from training.evaluation.methods import Method

DOCUMENT = "judge.json"
Groups = Mapping[str, tuple[str, ...]]
"""Group => the photos in it."""


def judge(config: JudgeConfig) -> Path:
    """Judge the photos, or count the votes; gives back the page's path.

    Raises ValueError for settings, folders and votes that do not fit, before anything slow where that can be told.
    """
    if config.count:
        return count_votes(config.count[0], config.count[1:], config.out, overwrite=config.overwrite)
    assert config.photos is not None
    if (config.out / DOCUMENT).exists() and not config.overwrite:
        raise ValueError(f"{config.out / DOCUMENT} exists already; choose another --out or pass --overwrite.")
    scorer = Scorer(config.metrics, device=pick_device(config.device))
    every = photo_dataset(config.photos, scale=config.scale)
    check_sizes(sizes := result_sizes(every))
    groups = read_groups(config.groups, list(every.loaders))
    methods, dataset = make_methods(config, every)
    names = [method.name for method in methods]
    if config.reference not in names:
        raise ValueError(f"--reference is {config.reference!r}; expected one of the methods: {', '.join(names)}.")
    votes = split_votes(config.vote, names)
    make_folder(config.out)
    sheets = Sheets(config.out, draw_places(sizes, config.seed, config.crop_px), config.reference)
    ballots = [
        Ballot(config.out, number, pair, sizes, config.seed, overwrite=config.overwrite)
        for number, pair in enumerate(votes, start=1)
    ]
    rows = list(judge_all(methods, dataset, scorer, config.reference, sheets, ballots))
    for ballot in ballots:
        ballot.finish(label=dataset.label, groups=groups)
    used = {name: kept for name, photos in groups.items() if (kept := tuple(p for p in photos if p in dataset.loaders))}
    judged = Judged(rows=rows, groups=used, names=("noise", "distance", *scorer.names), label=dataset.label)
    to_csv(judged, config.out / "judge.csv")
    document = to_document(judged, config.reference, num_photos=len(every), seed=config.seed)
    write_text(config.out / DOCUMENT, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return write_page(config.out, judged, document, sheets.publish(config.picture_kb * 1000))


def result_sizes(dataset: EvaluationDataset) -> dict[str, tuple[int, int]]:
    """Photo => (width, height) of its results, in the order of the names."""
    sizes = {}
    for case in dataset:
        height, width = output_size(case.photo.height, case.photo.width, dataset.scale)
        sizes[case.name] = (width, height)
    return sizes


def check_sizes(sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError for a photo whose results are too small to be judged."""
    for name, (width, height) in sizes.items():
        if min(width, height) < GRID_MIN_PX:
            raise ValueError(
                f"{name} becomes {width} x {height} pixels; expected at least {GRID_MIN_PX} a side. Take it out."
            )


def judge_all(
    methods: Sequence[Method],
    dataset: EvaluationDataset,
    scorer: Scorer,
    reference: str,
    sheets: Sheets,
    ballots: Sequence[Ballot],
) -> Iterator[Judgement]:
    """Every method's figures, photo by photo; sheets and pairs are written on the way."""
    with tqdm(total=len(dataset) * len(methods), desc=dataset.label, disable=None) as bar:
        for case in dataset:
            pictures: dict[str, Image.Image] = {}
            found: dict[str, tuple[Mapping[str, float], Mapping[str, str]]] = {}
            for method in methods:
                line = method.run(case, scorer)
                pictures[method.name] = line.image.convert("RGB")
                found[method.name] = (line.measurement.scores.values, line.measurement.scores.missing)
                bar.update()
            sheets.add(case.name, pictures, {method.name: method.label for method in methods})
            for ballot in ballots:
                ballot.add(case.name, pictures)
            yield from judge_case(case, pictures, found, reference)


def judge_case(
    case: Case,
    pictures: Mapping[str, Image.Image],
    found: Mapping[str, tuple[Mapping[str, float], Mapping[str, str]]],
    reference: str,
) -> Iterator[Judgement]:
    """The figures of one photo's results: noise and distance, and the metrics that were `found`."""
    goal = luma_of(pictures[reference])
    calm = find_calm(goal)
    for name, picture in pictures.items():
        luma = luma_of(picture)
        own = {"noise": noise_level(luma, calm), "distance": detail_distance(luma, goal)}
        values, missing = found[name]
        yield Judgement(
            method=name,
            photo=case.name,
            width_px=picture.width,
            height_px=picture.height,
            values={**own, **values},
            missing=missing,
        )


def read_groups(file: Path | None, names: Sequence[str]) -> Groups:
    """Group => its photos, of a CSV file with the columns name and group. A photo may be in several groups.

    Raises ValueError for a missing file, other columns, or a photo that is not there.
    """
    if file is None:
        return {}
    if not file.is_file():
        raise ValueError(f"{file} is missing; give a CSV file with the columns name and group.")
    with file.open(encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened)
        columns = list(reader.fieldnames or ())
        if not {"name", "group"} <= set(columns):
            raise ValueError(f"{file.name} has the columns {', '.join(columns) or 'none'}; expected name and group.")
        rows = [(row["name"], row["group"]) for row in reader]
    unknown = [name for name, _ in rows if name not in names]
    if unknown:
        raise ValueError(f"{file.name} names {unknown[0]!r}, which is no photo here; give names without a suffix.")
    groups: dict[str, tuple[str, ...]] = {}
    for name, group in rows:
        groups[group] = (*groups.get(group, ()), name)
    return groups

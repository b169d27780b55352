"""`python -m training survey`: evaluations on several sets, shown as one Markdown page with small pictures.

Each set is an evaluation of its own (`training.evaluation.evaluate`) in a folder of `--work`. What is finished there is
not computed again while settings, weights and pictures stay the same; a set that fails leaves the others, and the page
says why.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gendrpix import __version__
from gendrpix.files import write_text
from gendrpix.image.read import find_pictures
from gendrpix.weights.load import find_restorer_folder
from gendrpix.weights.verify import digest_weights
from training.evaluation.config import EvaluateConfig
from training.evaluation.datasets import named_pictures
from training.evaluation.evaluate import Loaded, evaluate, load
from training.evaluation.methods import CHOICES, split_words
from training.studies.config import SurveyConfig
from training.studies.survey_page import Section, write_page

logger = logging.getLogger(__name__)

REQUEST_FILE = "request.json"
"""In a set's folder: what was asked for when it was finished."""


def survey(config: SurveyConfig) -> Path:
    """Evaluate every set and write the page; gives back its path.

    Raises ValueError for settings that do not fit, at once; for sets that failed, when the page of the others is there.
    """
    sets = list(plan_sets(config))
    loaded = load(sets[0][1])
    sections = [run_set(name, settings, loaded) for name, settings in sets]
    failed = [section for section in sections if section.error]
    said = "; ".join(f"{section.name}: {section.error}" for section in failed)
    if len(failed) == len(sections):
        raise ValueError(f"No set could be evaluated, and no page was written ({said}).")
    page = write_page(config, sections)
    if failed:
        raise ValueError(f"{len(failed)} of {len(sections)} sets failed ({said}). {page} shows the others.")
    return page


# The sets ----------------------------------------------------------------------------------------------------------


def plan_sets(config: SurveyConfig) -> Iterator[tuple[str, EvaluateConfig]]:
    """Name => settings of each evaluation, in the page's order. Raises ValueError for outputs that fit no set."""
    shared = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(EvaluateConfig) if field.name in SHARED
    }
    shared["crop_columns"] = CROP_COLUMNS
    for folder in config.truths:
        for number, degradation in enumerate(config.degradations):
            name = f"{slug(folder)}-{degradation}"
            yield (
                name,
                EvaluateConfig(
                    out=config.work / name,
                    truths=folder,
                    degradation=degradation,
                    seed=config.seed,
                    timing=False,  # pictures of many sizes: warming up each would be half the work
                    reconstruction=number == 0,  # the truths are the same
                    **shared,
                ),
            )
    fits: dict[str, bool] = {}
    for option, folders in (("pairs", config.pairs), ("photos", config.photos)):
        for folder in folders:
            whole, partial = sort_outputs(config.outputs, folder / "lq" if option == "pairs" else folder)
            fits.update(dict.fromkeys([*whole, *partial], True))
            given: dict[str, Any] = {
                option: folder,
                "timing": option == "pairs",
                "reconstruction": False,
                **shared,
            }
            yield slug(folder), EvaluateConfig(out=config.work / slug(folder), outputs=whole, **given)
            for word in partial:
                name = f"{slug(folder)}-{word.partition('=')[0]}"
                yield name, EvaluateConfig(out=config.work / name, outputs=(*whole, word), common=True, **given)
    for word in config.outputs:
        if word not in fits:
            raise ValueError(f"--outputs {word} has results for none of the pairs and photos; name them as the inputs.")


CROP_COLUMNS = 4
"""Crops side by side: a page is some 900 pixels wide."""
SHARED = (
    *("scale", "pictures", "restorers", "weights", "guidance", "pos_pad", "neg_pad", "metrics", "lpips_net"),
    *("device", "dtype", "crops", "crop_px", "baselines"),
)
"""Settings that every evaluation of a survey has in common, of the same name in both."""


def slug(folder: Path) -> str:
    """The folder's name, as a file's name."""
    return folder.resolve().name.lower().replace(" ", "-")


def sort_outputs(words: Sequence[str], inputs: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The NAME=FOLDER with a result for every picture of `inputs`, and those with results for some."""
    if not inputs.is_dir():
        return (), ()  # which the evaluation will say
    names = set(named_pictures(inputs))
    places = [place for _, place in split_words("--outputs", words, set())]
    have = [names & set(named_pictures(Path(place))) for place in places]
    whole = tuple(word for word, found in zip(words, have, strict=True) if found == names)
    return whole, tuple(word for word, found in zip(words, have, strict=True) if found and found != names)


def run_set(name: str, settings: EvaluateConfig, loaded: Loaded) -> Section:
    """One evaluation, unless the same is there already. A failure of its input or of the run is kept as a sentence."""
    finished = settings.out / REQUEST_FILE
    try:
        asked = describe_request(settings)
        if finished.is_file() and json.loads(finished.read_text(encoding="utf-8")) == asked:
            logger.info("%s is there already", name)
        else:
            finished.unlink(missing_ok=True)
            evaluate(dataclasses.replace(settings, overwrite=True), loaded)
            write_text(finished, json.dumps(asked, indent=2, ensure_ascii=False) + "\n")
        document = json.loads((settings.out / "scores.json").read_text(encoding="utf-8"))
    except (ValueError, OSError, RuntimeError) as error:
        logger.warning("%s failed: %s", name, error)
        return Section(name=name, folder=settings.out, error=str(error) or type(error).__name__)
    return Section(name=name, folder=settings.out, document=document)


def describe_request(settings: EvaluateConfig) -> dict[str, Any]:
    """What decides an evaluation's figures: settings, weights, the pictures by name, size and time of change."""
    plain = {key: str(value) for key, value in dataclasses.asdict(settings).items() if key not in ("out", "overwrite")}
    restorers = dict.fromkeys(name.removesuffix("*") for name in settings.restorers if name in CHOICES[2:])
    weights = {name: digest_weights(find_restorer_folder(name, settings.weights)) for name in restorers}
    folders = [settings.truths, settings.photos]
    folders += [settings.pairs / side for side in ("lq", "hq")] if settings.pairs else []
    folders += [Path(word.partition("=")[2]) for word in settings.outputs]
    files = [file for folder in folders if folder is not None for file in find_pictures([folder])]
    pictures = {str(file): [file.stat().st_size, file.stat().st_mtime] for file in files}
    return {"gendrpix": __version__, "settings": plain, "weights": weights, "pictures": pictures}

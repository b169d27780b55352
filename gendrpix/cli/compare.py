"""The command `compare`: one picture with every restorer."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from gendrpix.cli.console import check_free, quiet_libraries, say, say_notes
from gendrpix.jobs.calls import dtype_of
from gendrpix.settings.options import Compare, check_common

if TYPE_CHECKING:
    from gendrpix.comparison.comparison import Record


def compare(options: Compare) -> int:
    """Restore one picture with every restorer, save each result as it ends, then the reports."""
    from gendrpix.baselines.find import open_baselines
    from gendrpix.comparison.comparison import INPUT, input_record
    from gendrpix.comparison.comparison import compare as run_comparison
    from gendrpix.comparison.report import to_table, write_csv, write_json
    from gendrpix.devices import pick_device
    from gendrpix.image.picture import Picture, cut
    from gendrpix.image.read import open_picture
    from gendrpix.image.write import save_png
    from gendrpix.metrics.scorer import Scorer
    from gendrpix.restore.cache import RestorerCache, load_all
    from gendrpix.restore.pipelines import enlarged_alpha
    from gendrpix.settings.recipe import describe_recipe, pick_scale, png_entries
    from gendrpix.settings.restoration import CompareSettings, order_choices
    from gendrpix.specs import CHOICE_LABELS

    check_common(options)
    picture = open_picture(options.input)
    if options.crop is not None:
        picture = cut(picture, options.crop)
    truth = None if options.truth is None else open_picture(options.truth)
    say_notes(options.input, picture.notes)
    settings = CompareSettings(
        scale=pick_scale(picture.width, picture.height, options.scale, options.size),
        guidance=options.guidance,
        pos_pad=options.pos_pad,
        neg_pad=options.neg_pad,
        plain_cfg=options.plain_cfg,
        color_fix=options.color_fix,
        warmup=options.warmup,
        repeats=options.repeats,
    )
    choices = order_choices(options.restorers, settings)
    baselines = open_baselines(options.baselines, pick_device(options.device), taken=(INPUT, *CHOICE_LABELS))
    for baseline in baselines:
        say(f"{baseline.label}: licence {baseline.licence}; SHA-256 {baseline.digest[:12]}.")
    digests = {baseline.name: baseline.digest for baseline in baselines}
    names = (INPUT, *choices, *(baseline.name for baseline in baselines))
    files = {name: options.output / result_name(options.input, name) for name in names}
    reports = {writer: options.output / f"report.{kind}" for writer, kind in ((write_csv, "csv"), (write_json, "json"))}
    check_free((*files.values(), *reports.values()), options.overwrite)
    with quiet_libraries():
        device = pick_device(options.device)
        dtype = dtype_of(options, device)
        cache = RestorerCache(options.weights, device=device, dtype=dtype, speedups=options.speedups)
        scorer = Scorer(device=device, lpips_net=options.lpips_net)
        records: list[Record] = []
        first = input_record(picture, settings, scorer, truth)
        load_all(cache, choices)
        compared = run_comparison(picture, choices, settings, cache, scorer, truth, baselines=baselines)
        for record in chain([first], compared):
            options.output.mkdir(parents=True, exist_ok=True)
            guidance = options.guidance if record.name == "gendr-pix" else None
            recipe = describe_recipe(options, record.name, guidance, dtype)
            if record.name in digests:
                recipe.update(weights=record.name, weights_sha256=digests[record.name], dtype=record.dtype)
            entries = png_entries(recipe)
            alpha = enlarged_alpha(picture, record.pixels)
            result = Picture(color=record.pixels, alpha=alpha, grey=picture.grey)
            save_png(result, files[record.name], overwrite=options.overwrite, metadata=entries, bits=options.bits)
            records.append(record)
    for write, path in reports.items():
        write(records, path)
    print(to_table(records).to_text())
    return 0


# Parts of both -----------------------------------------------------------------------------------------------------


def result_name(source: Path, choice: str) -> str:
    """The file name of one result of a comparison: "cat_gendr-pix-star.png"."""
    return f"{source.stem}_{choice.replace('*', '-star')}.png"

"""The command `compare`: one picture with every restorer."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from gendrpix.cli.console import check_free, quiet_libraries, say, say_notes
from gendrpix.settings.options import Compare
from gendrpix.settings.recipe import INPUT, png_entries, weights_name, write_recipe
from gendrpix.settings.restoration import order_choices
from gendrpix.specs import CHOICE_LABELS


def compare(options: Compare) -> int:
    """Restore one picture with every restorer, save each result as it ends, then the reports."""
    from gendrpix.baselines.find import open_baselines
    from gendrpix.comparison.comparison import Measurement, input_line
    from gendrpix.comparison.comparison import compare as run_comparison
    from gendrpix.comparison.report import to_table, write_csv, write_json
    from gendrpix.devices import pick_device
    from gendrpix.image.picture import Picture, cut
    from gendrpix.image.read import open_hashed, open_picture
    from gendrpix.image.write import save_png
    from gendrpix.metrics.profiling import Runs
    from gendrpix.metrics.scorer import Scorer
    from gendrpix.restore.cache import RestorerCache, load_all
    from gendrpix.restore.restorer import enlarged_alpha, pick_dtype_for

    settings = options.settings
    runs = Runs(warmup=options.warmup, repeats=options.repeats)
    picture, digest = open_hashed(options.input)
    if settings.crop is not None:
        picture = cut(picture, settings.crop)
    truth = None if options.truth is None else open_picture(options.truth)
    say_notes(options.input, picture.notes)
    choices = order_choices(options.restorers, settings)
    baselines = open_baselines(options.baselines, pick_device(options.device), taken=(INPUT, *CHOICE_LABELS))
    for baseline in baselines:
        say(f"{baseline.label}: licence {baseline.licence}; SHA-256 {baseline.digest[:12]}.")
    digests = {baseline.name: baseline.digest for baseline in baselines}
    names = (INPUT, *choices, *digests)
    files = {name: options.output / result_name(options.input, name) for name in names}
    reports = {writer: options.output / f"report.{kind}" for writer, kind in ((write_csv, "csv"), (write_json, "json"))}
    check_free((*files.values(), *reports.values()), options.overwrite)
    with quiet_libraries():
        device = pick_device(options.device)
        dtype = pick_dtype_for(settings, device)
        cache = RestorerCache(options.weights, device=device, dtype=dtype, speedups=settings.speedups)
        scorer = Scorer(device=device, lpips_net=options.lpips_net)
        measured: list[Measurement] = []
        first = input_line(picture, settings, scorer, truth)
        load_all(cache, choices)
        lines = run_comparison(picture, choices, settings, cache, scorer, truth, runs=runs, baselines=baselines)
        for measurement, result, _ in chain([first], lines):
            options.output.mkdir(parents=True, exist_ok=True)
            name = measurement.name
            own = name in CHOICE_LABELS
            recipe = write_recipe(
                measurement.settings,
                weights=name if name in digests else weights_name(options.weights),
                weights_sha256=cache.digest(name) if own else digests.get(name),
                input_sha256=digest,
                restorer=None if own else name,
            )
            saved = Picture(color=result.pixels, alpha=enlarged_alpha(picture, result.pixels), grey=picture.grey)
            save_png(saved, files[name], overwrite=options.overwrite, metadata=png_entries(recipe), bits=settings.bits)
            measured.append(measurement)
    for write, path in reports.items():
        write(measured, path)
    print(to_table(measured).to_text())
    return 0


# Parts of both -----------------------------------------------------------------------------------------------------


def result_name(source: Path, choice: str) -> str:
    """The file name of one result of a comparison: "cat_gendr-pix-star.png"."""
    return f"{source.stem}_{choice.replace('*', '-star')}.png"

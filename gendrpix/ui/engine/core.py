"""What the page uses of the core, in one place. It takes seconds to import: the page has it from `late`."""

from __future__ import annotations

from gendrpix.bench.cases import describe_case, plan_bench
from gendrpix.bench.plots import plot_growth
from gendrpix.bench.report import about, to_csv
from gendrpix.bench.report import to_dict as bench_to_dict
from gendrpix.bench.report import to_json as bench_to_json
from gendrpix.bench.report import to_table as bench_to_table
from gendrpix.bench.run import gather, measure_all
from gendrpix.comparison.comparison import (
    SCORED,
    Compared,
    Measurement,
    check_truth,
    compare,
    input_line,
    relative_to_gendr,
    run_choice,
    score_image,
)
from gendrpix.comparison.degrade import Degradation, crop_clean, degrade
from gendrpix.comparison.forecast import Rates, check_fits, forecast, in_a_line, plan_choice
from gendrpix.comparison.ranking import Rank, Vote, next_pair, rank, ranking_csv, votes_csv
from gendrpix.comparison.report import to_dict, to_table
from gendrpix.comparison.sweep import ALL_OFFSETS, BranchBank, Side, omega_curve, sweep_offsets
from gendrpix.devices import describe_device, pick_device, pick_dtype
from gendrpix.image.picture import Limits, Picture, cut, place_box
from gendrpix.image.read import open_hashed, open_picture, read_size
from gendrpix.image.resize import check_output_size, output_size, resize
from gendrpix.image.write import save_png, to_pil
from gendrpix.jobs.archives import Named, Unpacked, ZipLimits, is_picture, pack, plain_name, unpack, without_twins
from gendrpix.jobs.batch import WHOLE_PIXELS, Calls, restore_files
from gendrpix.jobs.calls import calls_of
from gendrpix.jobs.reports import write_report
from gendrpix.jobs.tasks import Outcome, Task
from gendrpix.metrics.profiling import Runs
from gendrpix.metrics.registry import DEFAULT_METRICS, METRICS
from gendrpix.metrics.scorer import Scorer
from gendrpix.report.maps import (
    cell_at,
    consistency,
    difference,
    draw_heat,
    draw_spectrum,
    draw_sweep,
    figure_text,
    spectrum,
    stack_beside,
)
from gendrpix.report.plots import crops_sheet
from gendrpix.report.tables import Table, format_seconds
from gendrpix.restore.cache import RestorerCache
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.restore.restorer import OneStepRestorer, Result, dtype_name, enlarged_alpha
from gendrpix.settings.options import Bench
from gendrpix.weights.load import find_restorer_folder, own_offsets
from gendrpix.weights.verify import digest_weights

__all__ = [
    "ALL_OFFSETS",
    "Bench",
    "BranchBank",
    "Calls",
    "Compared",
    "DEFAULT_METRICS",
    "Degradation",
    "Limits",
    "METRICS",
    "Measurement",
    "Named",
    "OneStepRestorer",
    "Outcome",
    "Picture",
    "Rank",
    "Rates",
    "RestorerCache",
    "RestorerPipeline",
    "Result",
    "Runs",
    "SCORED",
    "Scorer",
    "Side",
    "Table",
    "Task",
    "Unpacked",
    "Vote",
    "WHOLE_PIXELS",
    "ZipLimits",
    "about",
    "bench_to_dict",
    "bench_to_json",
    "bench_to_table",
    "calls_of",
    "cell_at",
    "check_fits",
    "check_output_size",
    "check_truth",
    "compare",
    "consistency",
    "crop_clean",
    "crops_sheet",
    "cut",
    "degrade",
    "describe_case",
    "describe_device",
    "difference",
    "digest_weights",
    "draw_heat",
    "draw_spectrum",
    "draw_sweep",
    "dtype_name",
    "enlarged_alpha",
    "figure_text",
    "find_restorer_folder",
    "forecast",
    "format_seconds",
    "gather",
    "in_a_line",
    "input_line",
    "is_picture",
    "measure_all",
    "next_pair",
    "omega_curve",
    "open_hashed",
    "open_picture",
    "output_size",
    "own_offsets",
    "pack",
    "pick_device",
    "pick_dtype",
    "place_box",
    "plain_name",
    "plan_bench",
    "plan_choice",
    "plot_growth",
    "rank",
    "ranking_csv",
    "read_size",
    "relative_to_gendr",
    "resize",
    "restore_files",
    "run_choice",
    "save_png",
    "score_image",
    "spectrum",
    "stack_beside",
    "sweep_offsets",
    "to_csv",
    "to_dict",
    "to_pil",
    "to_table",
    "unpack",
    "votes_csv",
    "without_twins",
    "write_report",
]

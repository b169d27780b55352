"""The commands `bench` and `info`: time, memory and cost."""

from __future__ import annotations

from gendrpix.cli.console import check_free, quiet_libraries, say
from gendrpix.settings.options import Bench, Info


def bench(options: Bench) -> int:
    """Time every case, then write the reports and print the table."""
    from gendrpix.bench.cases import plan_bench
    from gendrpix.bench.report import files_in, to_text, write_reports
    from gendrpix.bench.run import run_bench
    from gendrpix.devices import pick_device

    plan = plan_bench(options)
    files = files_in(options.output)
    check_free(files, options.overwrite)
    with quiet_libraries():
        result = run_bench(plan, pick_device(options.device), say)
    write_reports(result, options.output)
    print(to_text(result))
    return 0


def info(options: Info) -> int:
    """Print what the models cost."""
    from gendrpix.bench.cost import format_info

    print(format_info(options.size))
    return 0

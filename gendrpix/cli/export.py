"""The command `export`: a restorer as files for another runtime."""

from __future__ import annotations

from gendrpix.cli.console import quiet_libraries
from gendrpix.settings.options import Export


def export(options: Export) -> int:
    """Write a restorer as files for another runtime and print their paths."""
    from gendrpix.engines import export as exporting

    with quiet_libraries():
        paths = exporting.export(options)
    for path in paths:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0

"""The command line: `python -m gendrpix restore | compare | bench | export | import | info`.

Libraries that take seconds to load are imported by the commands that need them, so that --help answers at once.
Results go to standard output, sentences about what went wrong to standard error. Exit codes: 0 all done, 1 some
pictures failed, 2 nothing could be started, 130 interrupted, 141 the output's reader has gone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from gendrpix.cli.bench import bench, info
from gendrpix.cli.compare import compare
from gendrpix.cli.console import say
from gendrpix.cli.export import export
from gendrpix.cli.importer import import_system
from gendrpix.cli.restore import restore
from gendrpix.errors import quiet_about_pipes, sentence
from gendrpix.settings.options import Bench, Compare, Export, Import, Restore, parse


@quiet_about_pipes
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code. SystemExit(2) where the arguments make no sense."""
    command = parse(argv)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it comes with pyiqa and tells what it cannot speed up
    try:
        if isinstance(command, Restore):
            return restore(command)
        if isinstance(command, Compare):
            return compare(command)
        if isinstance(command, Bench):
            return bench(command)
        if isinstance(command, Export):
            return export(command)
        if isinstance(command, Import):
            return import_system(command)
        return info(command)
    except KeyboardInterrupt:
        say("interrupted.")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line before a user
        say(sentence(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())

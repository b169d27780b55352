"""The page's one way to the core: threads that need it at the same moment all get it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import gendrpix.ui

RACE = """
import sys, threading, time

class Slow:  # other threads get their turn within the import of every module of diffusers
    def find_spec(self, name, path=None, target=None):
        if name.startswith("diffusers"):
            time.sleep(0.005)

sys.meta_path.insert(0, Slow())
from gendrpix.ui.engine.late import core

start, failed = threading.Barrier(4), []

def visit(name):
    start.wait()
    try:
        getattr(core, name)
    except BaseException as error:
        failed.append(repr(error))

names = ["RestorerCache", "compare", "METRICS", "open_picture"]
threads = [threading.Thread(target=visit, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(failed) or None)
"""


def test_threads_that_meet_at_the_first_use_all_get_the_core() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_nothing_else_of_the_page_imports_the_core_when_called() -> None:
    """Imports within functions are third-party ones; own code is imported at the top or through `late`."""
    for path in Path(gendrpix.ui.__path__[0]).rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                roots = {name.partition(".")[0] for name in names}
                assert not roots & {"gendrpix", "diffusers", "transformers"}, f"{path}:{node.lineno}"

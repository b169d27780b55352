"""Assembles exactly the files that a Hugging Face Space needs into a folder and checks them: `make space`.

    python deploy/space.py build/space [--venv]

Then `hf upload NAME/SPACE build/space . --repo-type space`.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

from huggingface_hub import RepoCard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("README.md", "LICENSE", "app.py", "requirements.txt", "gendrpix/", "assets/")
LARGE_BYTES, TOTAL_BYTES = 10_000_000, 1_000_000_000
"""The hub takes larger files in its large-file store only, and gives a free Space about so much."""
STORED_LARGE = ".safetensors"
ATTRIBUTES = f"*{STORED_LARGE} filter=lfs diff=lfs merge=lfs -text\n"
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
OPTIONAL = {"ncnn", "pillow_heif", "spaces", "spandrel", "torchao"}
"""Imported only where they are there: for networks of others, HEIC, on ZeroGPU, for fp8."""
TRY = """
import sys
sys.path.insert(0, sys.argv[1])
import app, gendrpix.comparison.comparison, gendrpix.bench.report, gendrpix.metrics.scorer, gendrpix.comparison.sweep
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.page import build_page
from gendrpix.weights.load import BUNDLED
build_page(Engine())
for found in (app.__file__, gendrpix.__file__, str(BUNDLED)):
    assert found.startswith(sys.argv[1]), found
"""


class SpaceError(ValueError):
    """The Space would not work; one sentence."""


def assemble(folder: Path) -> list[Path]:
    """Copy what git tracks of `NEEDED` into a new folder; the files, relative. Raises SpaceError if it is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise SpaceError(f"{folder} is not empty; delete it or name another.")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    pictures = re.findall(r"!\[[^\]]*\]\(([^):]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    names = [name for name in listed.split("\0") if name and (name.startswith(NEEDED) or name in pictures)]
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    (folder / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    return [Path(name) for name in (*names, ".gitattributes")]


def check_front_matter(folder: Path, requirements: Mapping[str, Requirement], pythons: SpecifierSet) -> None:
    """Raise SpaceError where README.md's front matter is not what the hub and this project need."""
    data: dict[str, Any] = RepoCard.load(folder / "README.md", repo_type="space").data.to_dict()
    missing = [key for key in ("title", "emoji", "colorFrom", "colorTo", "license", "tags") if not data.get(key)]
    if missing:
        raise SpaceError(f"README.md's front matter has no {missing[0]}; add it.")
    if data.get("sdk") != "gradio" or not (folder / str(data.get("app_file"))).is_file():
        raise SpaceError(f"sdk is {data.get('sdk')!r}, app_file {data.get('app_file')!r}; expected gradio and a file.")
    for name, allowed in (("sdk_version", requirements["gradio"].specifier), ("python_version", pythons)):
        version = data.get(name)
        if not isinstance(version, str) or version not in allowed:
            raise SpaceError(f"{name} is {version!r}; expected a quoted version within {allowed}.")
    wrong = [data[key] for key in ("colorFrom", "colorTo") if data[key] not in COLORS]
    if wrong:
        raise SpaceError(f"The colour {wrong[0]!r} is unknown to the hub; expected one of {', '.join(COLORS)}.")
    if len(str(data.get("short_description", ""))) > 60:
        raise SpaceError("short_description is longer than the hub's 60 characters; shorten it.")


def check_sizes(folder: Path, files: Iterable[Path]) -> int:
    """The total in bytes. Raises SpaceError for a file or a whole that the hub would not take."""
    sizes = {path: (folder / path).stat().st_size for path in files}
    large = [path for path, size in sizes.items() if size > LARGE_BYTES and path.suffix != STORED_LARGE]
    if large:
        raise SpaceError(f"{large[0]} has {sizes[large[0]]:,} bytes; the limit outside the large-file store is 10 MB.")
    if sum(sizes.values()) > TOTAL_BYTES:
        raise SpaceError(f"All files have {sum(sizes.values()):,} bytes; the limit is {TOTAL_BYTES:,}.")
    return sum(sizes.values())


def read_requirements(path: Path) -> dict[str, Requirement]:
    """requirements.txt by name."""
    lines = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in found}


def check_imports(folder: Path, requirements: Mapping[str, Requirement]) -> None:
    """Raise SpaceError where a module is imported that neither the folder nor a requirement, or its own, brings."""
    brought = set(requirements)
    pending = [(name, one.extras) for name, one in requirements.items()]
    while pending:
        name, extras = pending.pop()
        for text in requires(name) or ():
            one = Requirement(text)
            wanted = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if wanted and (key := canonicalize_name(one.name)) not in brought:
                brought.add(key)
                pending.append((key, one.extras))
    homes = packages_distributions()
    known = set(sys.stdlib_module_names) | OPTIONAL | {path.stem for path in folder.iterdir()}
    for path in sorted(folder.rglob("*.py")):
        for module in imported(path) - known:
            if not brought & {canonicalize_name(home) for home in homes.get(module, ())}:
                raise SpaceError(f"{path.relative_to(folder)} imports {module}, which requirements.txt does not bring.")


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def check_start(folder: Path, python: Path) -> None:
    """Build the page from the folder alone, in another process. Raises SpaceError with the last line of its error."""
    with tempfile.TemporaryDirectory() as empty:
        run = [str(python), "-I", "-B", "-c", TRY, str(folder)]
        done = subprocess.run(run, cwd=empty, capture_output=True, text=True)  # noqa: S603 - our own interpreter
    if done.returncode:
        raise SpaceError(f"The page does not start from {folder}: {done.stderr.strip().splitlines()[-1]}")


def fresh_python(folder: Path, requirements: Path) -> Path:
    """The interpreter of a new environment with the Space's requirements; several gigabytes, minutes."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)  # noqa: S603
    return python


def main(argv: list[str] | None = None) -> int:
    """Assemble and check; the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/space.py", description="Assemble and check a Hugging Face Space.")
    parser.add_argument("folder", type=Path, help="a new folder for the Space's files")
    parser.add_argument("--venv", action="store_true", help="start the page in a new environment, installed for it")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    try:
        files = assemble(folder)
        requirements = read_requirements(folder / "requirements.txt")
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        [pythons] = re.findall(r'^requires-python = "(.*)"$', project, re.M)
        check_front_matter(folder, requirements, SpecifierSet(pythons))
        total = check_sizes(folder, files)
        check_imports(folder, requirements)
        with tempfile.TemporaryDirectory() as place:
            fresh = options.venv and fresh_python(Path(place), folder / "requirements.txt")
            check_start(folder, fresh or Path(sys.executable))
    except SpaceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{folder}: {len(files)} files, {total / 1e6:.1f} MB; front matter, sizes, imports, start: good.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

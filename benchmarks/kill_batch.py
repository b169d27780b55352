"""Kill a job of many pictures at random moments: `python -m benchmarks.kill_batch --kills 50`.

After every SIGKILL each result that has its name must be whole and none that was there may be gone or changed; the job
is then started again where it was. Whenever it reaches its end, its folder must hold, byte for byte, what an
undisturbed job has written, and nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from gendrpix.__main__ import main as command
from tests.helpers.folders import Contents, read_folder, split_parts
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import photo

NUM_PICTURES = 12


def run_command(words: list[str], log: Path) -> None:
    torch.set_num_threads(1)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(command(words))


def start_job(pictures: Path, weights: Path, out: Path) -> BaseProcess:
    """`gendrpix restore` in a process of its own, forked from one that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["gendrpix.restore.pipelines", "gendrpix.jobs.batch", "tests.helpers.models", "tests.helpers.pictures"]
    )
    words = ["restore", str(pictures), "-o", str(out), "--weights", str(weights), "--restorer", "gendr-pix"]
    words += ["--scale", "1.5", "--device", "cpu"]
    process = context.Process(target=run_command, args=(words, out.with_suffix(".log")))
    process.start()
    return process


def finish(process: BaseProcess) -> float:
    """Wait for the end, which must be a good one; the seconds it took."""
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0, f"the undisturbed process ended with {process.exitcode}"
    return time.monotonic() - began


def kill_later(process: BaseProcess, longest_s: float, rng: random.Random) -> bool:
    """SIGKILL after a random while; False where the process had come to its good end before."""
    process.join(rng.uniform(0, longest_s))
    ended = process.exitcode is not None
    process.kill()
    process.join()
    assert not ended or process.exitcode == 0, f"the process ended by itself with {process.exitcode}"
    return not ended


def check_kept(before: Contents, now: Contents, whole: Contents) -> None:
    """Whatever has its name is what the undisturbed job wrote; nothing that was there is gone."""
    for name, data in now.items():
        assert whole.get(name) == data, f"{name} is not what an undisturbed job writes"
    assert before.keys() <= now.keys(), f"lost: {sorted(before.keys() - now.keys())}"


def kill_job(kills: int, seed: int, folder: Path, tell: Callable[[str], None]) -> Counter[str]:
    """Kill so often; the counts of what was seen. AssertionError where anything is lost, half or different."""
    rng, seen = random.Random(seed), Counter[str]()
    weights = save_tiny_family(folder / "weights", names=("gendr-pix",))
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(NUM_PICTURES):
        photo(24, 20).rotate(number).save(pictures / f"{number:02}.png")
    finish(start_job(pictures, weights, folder / "whole"))
    longest = finish(start_job(pictures, weights, folder / "again"))  # the first one started the server
    whole = read_folder(folder / "whole")
    assert len(whole) == NUM_PICTURES and read_folder(folder / "again") == whole
    job, kept = 0, Contents()
    while seen["killed"] < kills:
        out = folder / f"job-{job}"
        if kill_later(start_job(pictures, weights, out), longest, rng):
            seen["killed"] += 1
            now, parts = split_parts(read_folder(out))
            seen["killed while a file was being written"] += bool(parts)
            seen["killed with some results there, not all"] += 0 < len(now) < NUM_PICTURES
            check_kept(kept, now, whole)
            kept = now
            tell(f"kill {seen['killed']}: {len(now)} of {NUM_PICTURES} there, {len(parts)} unfinished")
        else:
            assert read_folder(out) == whole, "the job's end is not that of an undisturbed one"
            seen["jobs brought to their end"] += 1
            job, kept = job + 1, Contents()
    finish(start_job(pictures, weights, folder / f"job-{job}"))
    assert read_folder(folder / f"job-{job}") == whole, "the last job's end is not that of an undisturbed one"
    seen["jobs brought to their end"] += 1
    return seen


def run(kill: Callable[[int, int, Path, Callable[[str], None]], Counter[str]], description: str | None) -> int:
    """The command line of a module that kills."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)  # read when the server starts
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seen = kill(options.kills, options.seed, Path(folder), lambda text: print(text, flush=True))
    print(f"in {time.monotonic() - began:.0f} s: " + "; ".join(f"{name} {count}" for name, count in seen.items()))
    return 0


if __name__ == "__main__":
    sys.exit(run(kill_job, __doc__))

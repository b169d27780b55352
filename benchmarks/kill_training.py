"""Kill a training run at random moments: `python -m benchmarks.kill_training --kills 50`.

After every SIGKILL the newest complete checkpoint must be readable as a whole and no older than before; the run is
then started again. Whenever it reaches its end, its last state and its exported weights must equal, bit for bit, those
of an undisturbed run, and nothing half-written may be left. Stages adc and pix in turn, tiny models.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.kill_batch import finish, kill_later, run
from tests.helpers.folders import read_folder
from tests.helpers.models import save_tiny_family
from tests.helpers.stages import assert_same, checkpoint_state, make_photos, stage_words, start_stage

STEPS = 6
STAGES = ("adc", "pix")


class Victim:
    """One stage: its undisturbed run, and the run that is killed, over and over."""

    def __init__(self, stage: str, family: Path, photos: Path, folder: Path) -> None:
        self.stage, self.family, self.photos, self.folder = stage, family, photos, folder
        finish(self.start("whole"))
        self.longest_s = finish(self.start("again"))  # the first one started the server
        self.whole = self.state("whole", STEPS)
        self.weights = read_folder(folder / "whole/weights")
        self.job, self.newest = 0, 0
        self.check_end("again")

    def start(self, name: str) -> BaseProcess:
        options = {"steps": STEPS, "checkpoint_every": 1, "sample_every": 3, "keep_checkpoints": 2}
        return start_stage(stage_words(self.stage, self.family, self.photos, self.folder / name, **options))

    def state(self, name: str, step: int) -> dict[str, Any]:
        return checkpoint_state(self.folder / name / f"checkpoints/step-{step:08d}")

    def kill(self, rng: random.Random, seen: Counter[str]) -> str:
        """Start the run and kill it; a line about what was found."""
        name = f"job-{self.job}"
        if not kill_later(self.start(name), self.longest_s, rng):
            self.check_end(name)
            seen["runs brought to their end"] += 1
            self.job, self.newest = self.job + 1, 0
            return f"{self.stage}: came to its end"
        seen["killed"] += 1
        there = sorted((self.folder / name / "checkpoints").glob("step-*"))
        partial = list((self.folder / name).rglob(".*.partial"))
        seen["killed while something was being written or removed"] += bool(partial)
        reached = int(there[-1].name.removeprefix("step-")) if there else 0
        assert reached >= self.newest, f"{self.stage}: step {self.newest} was there, now {reached}"
        for checkpoint in there:
            assert checkpoint_state(checkpoint).keys() == self.whole.keys(), f"{checkpoint} is not whole"
        seen["killed between the first checkpoint and the last"] += 0 < reached < STEPS
        self.newest = reached
        return f"{self.stage}: killed at step {reached} of {STEPS}, {len(partial)} unfinished"

    def check_end(self, name: str) -> None:
        assert_same(self.state(name, STEPS), self.whole, self.stage)
        assert read_folder(self.folder / name / "weights") == self.weights, f"{self.stage}: other weights"
        assert not list((self.folder / name).rglob(".*.partial")), f"{self.stage}: something half-written is left"


def kill_runs(kills: int, seed: int, folder: Path, tell: Callable[[str], None]) -> Counter[str]:
    """Kill so often; the counts of what was seen. AssertionError where anything is lost, half or different."""
    rng, seen = random.Random(seed), Counter[str]()
    family = save_tiny_family(folder / "family", ("gendr", "gendr-adc"))
    photos = make_photos(folder / "photos")
    victims = [Victim(stage, family, photos, folder / stage) for stage in STAGES]
    while seen["killed"] < kills:
        tell(f"kill {seen['killed']}: {victims[seen['killed'] % len(victims)].kill(rng, seen)}")
    for victim in victims:
        name = f"job-{victim.job}"
        finish(victim.start(name))
        victim.check_end(name)
        seen["runs brought to their end"] += 1
    return seen


if __name__ == "__main__":
    sys.exit(run(kill_runs, __doc__))

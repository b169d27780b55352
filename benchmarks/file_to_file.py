"""From file to file: the share of the wall time in which the model computes, before and after overlapping.

    python -m benchmarks.file_to_file PHOTOS > table.md

50 photos of the folder are reduced to mixed sizes (128 to 256 px), saved as JPEG and PNG, and restored to four times
that by GenDR-Pix* with `gendrpix.jobs.batch.restore_files`, as `restore` does: one thing after the other, overlapped,
and overlapped in batches of four.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from gendrpix.devices import pick_dtype
from gendrpix.image.read import find_pictures, open_picture
from gendrpix.image.resize import resize
from gendrpix.image.write import to_pil
from gendrpix.jobs.batch import restore_files
from gendrpix.jobs.calls import calls_of
from gendrpix.jobs.planning import Place, plan_tasks
from gendrpix.jobs.tasks import Outcome
from gendrpix.restore.pipelines import load_restorer
from gendrpix.settings.restoration import RestoreSettings

SIZES = ((192, 128), (128, 192), (256, 192), (160, 160))


def make_inputs(photos: Path, folder: Path, count: int) -> None:
    """`count` small pictures, every second a PNG."""
    found = find_pictures([photos])
    folder.mkdir()
    for number in range(count):
        color = open_picture(found[number % len(found)]).color
        small = to_pil(resize(color, *SIZES[number % len(SIZES)][::-1]))
        small.save(folder / f"{number:02}.{'jpg' if number % 2 else 'png'}", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--bits", type=int, default=8)
    options = parser.parse_args()
    head = f"{options.count} photos, {torch.get_num_threads()} threads"
    print(f"| {head} | model's share of the wall time | photos/s | processor seconds |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_inputs(options.photos, folder / "in", options.count)
        asked = RestoreSettings(bits=options.bits)
        calls = calls_of(load_restorer("gendr-pix", dtype=pick_dtype(options.dtype)), asked, print)
        calls.whole([open_picture(next((folder / "in").iterdir()))])  # the first call is slower
        for label, how in (
            ("one after the other", {"overlap": False}),
            ("overlapped", {}),
            ("overlapped, batches of 4", {"batch": 4}),
        ):
            tasks = plan_tasks([folder / "in"], Place(folder=folder / label)).tasks
            done: list[Outcome] = []
            start = time.process_time()
            times = restore_files(tasks, lambda: calls, asked, lambda digest: {}, done.append, **how)
            seconds = time.process_time() - start
            assert all(one.status == "restored" for one in done), done
            print(f"| {label} | {times.share:.0%} | {len(done) / times.wall_s:.2f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""Restore a collection on several hosts, or in object storage, with Ray Data and the command line's core call.

    pip install -r requirements-ray.txt
    python examples/restore_with_ray.py photos restored --scale 4
    python examples/restore_with_ray.py s3://bucket/photos s3://bucket/restored --workers 8 --gpus 1

SOURCE and TARGET are folders, or addresses that pyarrow's file systems understand. Each result is a PNG with its
recipe; a photo that cannot be restored is told at the end and does not stop the others.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import ray
from pyarrow import fs


class Restorer:
    """One process with its own loaded weights; Ray makes as many as were asked for and hands them photos."""

    def __init__(self, options: argparse.Namespace) -> None:
        from gendrpix import load_restorer
        from gendrpix.devices import pick_device, pick_dtype
        from gendrpix.settings.recipe import weights_name
        from gendrpix.settings.restoration import RestoreSettings
        from gendrpix.weights.load import find_restorer_folder
        from gendrpix.weights.verify import digest_weights

        self.weights = weights_name(options.weights)
        self.digest = digest_weights(find_restorer_folder(options.restorer, options.weights))
        device = pick_device("cuda" if options.gpus else "cpu")
        self.pipeline = load_restorer(
            options.restorer, options.weights, device=device, dtype=pick_dtype("auto", device)
        )
        self.settings = self.pipeline.resolve(RestoreSettings(restorer=options.restorer, scale=options.scale))
        self.files, self.folder = fs.FileSystem.from_uri(options.target)
        self.files.create_dir(self.folder, recursive=True)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """{"path", "bytes"} of a photo => {"path", "result", "reason"}; its PNG is in the target."""
        from gendrpix.errors import sentence

        source = PurePosixPath(row["path"])
        target = f"{self.folder}/{source.stem}.png"
        try:
            png = self.restore(bytes(row["bytes"]))
        except Exception as error:  # noqa: BLE001 - one bad photo must not end the others
            return {"path": str(source), "result": "", "reason": sentence(error)}
        with self.files.open_output_stream(target) as file:
            file.write(png)
        return {"path": str(source), "result": target, "reason": ""}

    def restore(self, data: bytes) -> bytes:
        """A photo's file => its result's PNG."""
        from gendrpix.image.read import open_picture
        from gendrpix.image.write import to_array, write_png
        from gendrpix.restore.restorer import enlarged_alpha
        from gendrpix.settings.recipe import png_entries, write_recipe

        picture = open_picture(data)
        pixels = self.pipeline.run(picture.color, self.settings).pixels
        digests = {"weights_sha256": self.digest, "input_sha256": hashlib.sha256(data).hexdigest()}
        recipe = write_recipe(self.settings, weights=self.weights, **digests)
        file = io.BytesIO()
        write_png(file, to_array(pixels, enlarged_alpha(picture, pixels)), png_entries(recipe))
        return file.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Restore the collection; the exit code is 1 where a photo could not be restored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--restorer", default="gendr-pix", choices=("gendr", "gendr-adc", "gendr-pix"))
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--weights", default="mini", help="a bundled family, a folder that all hosts see, or a hub id")
    parser.add_argument("--workers", type=int, help="processes with weights; all CPUs but one where none is given")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each process")
    options = parser.parse_args(argv)
    source, options.target = (as_address(place) for place in (options.source, options.target))
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    workers = options.workers or max(1, cpus - 1)
    if workers >= cpus > 1 and not options.gpus:
        parser.error(
            f"--workers {workers} leaves none of {cpus} CPUs to read photos with, and Ray would wait for ever."
        )
    photos = ray.data.read_binary_files(source, include_paths=True)
    # Half a CPU each where there is but one: reading needs the other half.
    share = 1.0 if cpus > 1 else 0.5
    restored = photos.map(
        Restorer,
        fn_constructor_args=(options,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=0 if options.gpus else share,
        num_gpus=options.gpus or None,
    )
    failed = 0
    for row in restored.iter_rows():
        failed += bool(row["reason"])
        print(row["result"] or f"{row['path']}: {row['reason']}", file=sys.stderr if row["reason"] else sys.stdout)
    return 1 if failed else 0


def as_address(place: str) -> str:
    """A local folder as its absolute path; an address as it is."""
    return place if "://" in place else str(Path(os.path.expanduser(place)).resolve())


if __name__ == "__main__":
    sys.exit(main())

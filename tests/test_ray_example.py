"""The example on Ray Data, on Ray's own local engine, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendrpix.devices import pick_dtype
from gendrpix.restore.pipelines import load_restorer
from tests.helpers.models import save_tiny_family
from tests.helpers.pictures import photo

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_folder_is_restored_and_a_bad_file_told(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    weights = save_tiny_family(tmp_path / "tiny", names=("gendr-pix",))
    (tmp_path / "in").mkdir()
    for number in range(3):
        photo(20 + number, 16).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "bad.png").write_text("hello")
    words = ["in", "out", "--scale", "2", "--weights", str(weights)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "restore_with_ray.py"), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stderr
    assert "bad.png: " in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    pipeline = load_restorer("gendr-pix", weights, dtype=pick_dtype("auto"))
    for number in range(3):
        expected = np.asarray(pipeline(tmp_path / "in" / f"{number}.png", scale=2).images[0]).astype(int)
        with Image.open(tmp_path / "out" / f"{number}.png") as result:
            assert "gendrpix" in result.text
            assert np.abs(np.asarray(result).astype(int) - expected).max() <= 2  # bfloat16 there, float32 here

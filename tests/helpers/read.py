"""Reading files apart from the code under test."""

from pathlib import Path

import cv2
import numpy as np


def samples(path: Path) -> np.ndarray:
    """(H, W, 3) float in [0, 1]: the samples of a PNG with 8 or 16 bits a channel."""
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    return raw / np.iinfo(raw.dtype).max

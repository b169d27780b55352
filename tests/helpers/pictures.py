"""Pictures for the tests, and what every refusal must look like."""

import io

import numpy as np
from PIL import Image

from gendrpix.image.picture import Picture

COLOR = (200, 100, 50)


def encoded(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_name, **options)
    return buffer.getvalue()


def photo(width: int = 37, height: int = 23) -> Image.Image:
    """A smooth seeded picture, so that lossy formats keep it closely."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [columns * 255 // max(1, width - 1), rows * 255 // max(1, height - 1), (rows + columns) % 128]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def pixels(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8, computed apart from the module under test."""
    return np.rint((picture.color[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)


def assert_sentence(message: str) -> None:
    """One line, a full stop at its end, and a remedy after a semicolon."""
    assert "\n" not in message and message.endswith(".") and ";" in message, message

#!/usr/bin/env bash
# Pillow 12.3.0: a BMP of 4 bits a pixel with RLE compression.
# Guess: Pillow either reads such a file rightly or raises an error.
# Behaviour: a literal run ("absolute mode") of an odd number of pixels is read one byte short. The pixel in the last
#   half byte is lost, and the decoder goes on at a wrong byte: other pixels follow, with no error and no warning.
#   Runs of an even number are right. OpenCV reads all of them rightly.
# Seen (levels of an 8 x 1 picture whose pixels are 1 2 3 4 5 6 7 6, run of five literal pixels, then three encoded):
#   right  [1, 2, 3, 4, 5, 6, 7, 6]
#   opencv [1, 2, 3, 4, 5, 6, 7, 6]
#   pillow [1, 2, 3, 4, 0, 0, 0, 0]
# Source of the right value: Microsoft, "Bitmap Compression": the second byte is the number of colour indexes, two to
#   a byte, and the run is filled up to a multiple of two bytes.
# Exits with 0 while this holds, with 1 once Pillow reads it rightly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==12.3.0 numpy opencv-python-headless==5.0.0.93
cat > "$folder/check.py" <<'PYTHON'
import io
import struct
import sys

import cv2
import numpy as np
from PIL import Image


def bmp(width: int, stream: bytes) -> bytes:
    """A BMP of one row, 16 greys 17 levels apart, RLE4."""
    table = b"".join(struct.pack("<BBBB", grey, grey, grey, 0) for grey in range(0, 256, 17))
    offset = 14 + 40 + len(table)
    head = b"BM" + struct.pack("<IHHI", offset + len(stream), 0, 0, offset)
    return head + struct.pack("<IiiHHIIiiII", 40, width, 1, 1, 4, 2, len(stream), 0, 0, 16, 0) + table + stream


END = bytes([0, 0, 0, 1])
odd = bmp(8, bytes([0, 5, 0x12, 0x34, 0x50, 0, 3, 0x67]) + END)
even = bmp(8, bytes([0, 6, 0x12, 0x34, 0x56, 0, 2, 0x76]) + END)
right = [1, 2, 3, 4, 5, 6, 7, 6]


def pillow(data: bytes) -> list[int]:
    return [Image.open(io.BytesIO(data)).getpixel((x, 0)) for x in range(8)]


def opencv(data: bytes) -> list[int]:
    return (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0, :, 0] // 17).tolist()


print("right ", right)
print("opencv", opencv(odd))
print("pillow", pillow(odd))
assert opencv(odd) == opencv(even) == pillow(even) == right
sys.exit(pillow(odd) != [1, 2, 3, 4, 0, 0, 0, 0])
PYTHON
"$folder/venv/bin/python" "$folder/check.py"

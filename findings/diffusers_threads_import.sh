#!/usr/bin/env bash
# diffusers 0.42.1 on CPython: two threads import it at the same time.
# Guess: Python's import lock makes that safe: the second thread waits, then gets what the first has imported.
# Behaviour: while `diffusers` is imported it puts another object, its _LazyModule, under its own name in sys.modules.
#   A thread that waits for the lock meanwhile goes on with the first module object, which has no public name, and gets
#   an ImportError for a class that exists. The window is a fraction of a second on a fast disk, seconds on a slow one.
#   A server that loads its models in the background and in a request at once meets it. Later imports succeed.
# Seen (imports slowed by 20 ms a module, as a cold disk does; the second thread starts 0.1 s after the first):
#   first  imported DDIMScheduler
#   second ImportError: cannot import name 'DDIMScheduler' from 'diffusers' (...)
# Remedy: one lock of one's own around the first import.
# Exits with 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1
cat > "$folder/check.py" <<'PYTHON'
import sys
import threading
import time


class Slow:
    """Makes each import of diffusers' own modules take 20 ms longer."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith("diffusers"):
            time.sleep(0.02)


sys.meta_path.insert(0, Slow)
results: dict[str, str] = {}


def load(name: str) -> None:
    try:
        from diffusers import DDIMScheduler

        results[name] = f"imported {DDIMScheduler.__name__}"
    except ImportError as error:
        results[name] = f"ImportError: {error}".split(" (/")[0]


threads = [threading.Thread(target=load, args=(name,)) for name in ("first", "second")]
for thread in threads:
    thread.start()
    time.sleep(0.1)
for thread in threads:
    thread.join()
for name, result in results.items():
    print(name, result)
sys.exit(not results["second"].startswith("ImportError: cannot import name 'DDIMScheduler'"))
PYTHON
"$folder/venv/bin/python" "$folder/check.py"

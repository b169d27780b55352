"""GenDR-Pix: one-step photo restoration in pixel space, beside GenDR and GenDR-Adc.

    from gendrpix import load_restorer, open_picture
    restored = load_restorer("gendr-pix")(open_picture("photo.jpg"), scale=4).images[0]

The names below are imported when they are first used, so that `import gendrpix` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOMES = {
    "GenDRPipeline": "gendrpix.restore.pipelines",
    "GenDRAdcPipeline": "gendrpix.restore.pipelines",
    "GenDRPixPipeline": "gendrpix.restore.pipelines",
    "RestorationOutput": "gendrpix.restore.pipelines",
    "load_restorer": "gendrpix.restore.pipelines",
    "RestoreSettings": "gendrpix.settings.restoration",
    "Picture": "gendrpix.image.picture",
    "PictureError": "gendrpix.errors",
    "open_picture": "gendrpix.image.read",
    "save_png": "gendrpix.image.write",
    "cut": "gendrpix.image.picture",
    "MODEL_SPECS": "gendrpix.specs",
    "RESTORER_SPECS": "gendrpix.specs",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""The core behind the page, imported when it is first used: the page is served before that.

from gendrpix.ui.engine.late import core
core.open_picture(path)  # imports torch and all else on the first such use

It is the only way from the page to the core. Two threads must not import diffusers at once: the package replaces its
own module while it is imported, and the thread that waited is left with the empty one ("cannot import name").
"""

from __future__ import annotations

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendrpix.ui.engine import core
else:

    class _Core:
        """The names of `gendrpix.ui.engine.core`, imported by one thread while the others wait."""

        def __init__(self) -> None:
            self._lock = RLock()
            self._module: Any = None

        def __getattr__(self, name: str) -> Any:
            if self._module is None:
                with self._lock:
                    self._module = import_module("gendrpix.ui.engine.core")
            return getattr(self._module, name)

    core = _Core()

__all__ = ["core"]

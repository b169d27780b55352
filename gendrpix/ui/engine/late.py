"""The core behind the page, imported when it is first used: the page is served before that.

from gendrpix.ui.engine.late import core
core.open_picture(path)  # imports torch and all else on the first such use
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendrpix.ui.engine import core
else:

    class _Core:
        """The names of `gendrpix.ui.engine.core`."""

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module("gendrpix.ui.engine.core"), name)

    core = _Core()

__all__ = ["core"]

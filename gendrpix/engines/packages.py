"""The optional packages behind the exports, and the sentence where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

EXTRA = 'pip install "gendrpix[engines]", or pip install -r requirements-engines.txt'


def load_package(name: str, purpose: str) -> Any:
    """An optional package. Raises ValueError where it is not installed; `purpose` begins the sentence."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{purpose} needs the package {name}; install it with {EXTRA}.") from error

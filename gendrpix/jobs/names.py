"""Names of results: no two alike on any file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


class FreeNames:
    """Gives each wish a name that no other has: "cat.png", then "cat (2).png".

    Names that some file system takes for one are one here: other capitals, accents composed otherwise.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {key_of(name) for name in taken}
        self._last: dict[str, int] = {}

    def take(self, stem: str, suffix: str = "") -> str:
        """`stem` and `suffix`, with a number between them where that is taken."""
        wish = stem + suffix
        key = key_of(wish)
        if key not in self._taken:
            self._taken.add(key)
            return wish
        number = self._last.get(key, 1)
        while key in self._taken:
            number += 1
            name = f"{stem} ({number}){suffix}"
            key = key_of(name)
        self._last[key_of(wish)] = number
        self._taken.add(key)
        return name


def key_of(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name.casefold())

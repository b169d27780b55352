"""Font files by the scripts that they can write, and words to write with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

Script = Literal["latin", "greek", "cyrillic", "han"]
Style = Literal["any", "mono", "comic", "bold", "screen"]

SYSTEM_FONTS = Path("/usr/share/fonts")
SUFFIXES = (".ttf", ".otf")
ALPHABETS: dict[Script, str] = {
    "latin": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;!?-()%&$#_=+{}[]<>",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωΑΒΓΔΘΛΞΠΣΦΨΩ",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщыьэюяАБВГДЕЖЗИКЛМНПРСТФХЦЧШЭЮЯ",
    "han": (
        "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着"
        "去之过家学对可里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行"
        "方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理"
        "美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电"
        "四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市"
    ),
}
STYLE_WORDS: dict[Style, tuple[str, ...]] = {
    "any": (),
    "mono": ("mono", "code", "hack", "inconsolata"),
    "comic": ("comic", "lobster", "yanone", "dancing"),
    "screen": ("sans", "lato", "roboto", "cantarell", "play"),
    "bold": ("bold", "black", "heavy", "gothic", "bebas"),
}
UNWANTED = (
    "symbol", "cmb10", "cmex", "cmmi", "cmr10", "cmss", "cmsy", "cmtt", "stixsiz", "stixnonuni", "emoji", "math",
    "music", "lastresort", "barcode",
)  # fmt: skip
"""Parts of the names of fonts for formulas and signs, whose letters stand in other places or are none."""
TEXT = """the of and to in is was for that with this from they have not are but what all were when your can said there
use each which she how their will other about out many then them these some her would make like him into time has look
two more write see number way could people than first water been called who oil sit now find long down day did get come
made may part over new sound take only little work know place year live back give most very after thing our just name
good sentence man think say great where help through much before line right too mean old any same tell boy follow came
want show also around form three small set put end does another well large must big even such because turn here why ask
went men read need land different home us move try kind hand picture again change off play spell air away animal house
point page letter mother answer found study still learn should world high every near add food between own below country
plant last school father keep tree never start city earth eyes light thought head under story saw left quick brown fox
jumps lazy dog sphinx black quartz judge vow exit open closed stop danger warning push pull coffee hotel market station
museum garden fresh bread sale price total north south street avenue river bridge quiz jazz fjord zephyr waltz Oxygen
Kiwi Vampire Yacht Xenon Quebec Zulu Whisky Juliet Golf Bravo"""
WORDS = TEXT.split()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fonts:
    """Font files, each with the scripts of which it has all letters."""

    files: tuple[tuple[Path, frozenset[Script]], ...]

    def choose(self, rng: np.random.Generator, style: Style = "any", script: Script = "latin") -> Path:
        """A file that writes the script, of the style where there is one. Families are drawn equally often."""
        able = [path for path, scripts in self.files if script in scripts]
        words = STYLE_WORDS[style]
        styled = [path for path in able if any(word in path.stem.lower() for word in words)]
        families: dict[str, list[Path]] = {}
        for path in styled or able:
            families.setdefault(path.stem.split("-")[0][:8].lower(), []).append(path)
        names = sorted(families)
        family = families[names[int(rng.integers(len(names)))]]
        return family[int(rng.integers(len(family)))]

    def scripts(self) -> tuple[Script, ...]:
        """The scripts that at least one file writes."""
        return tuple(script for script in ALPHABETS if any(script in found for _, found in self.files))


def find_fonts(folders: Sequence[Path] = ()) -> Fonts:
    """The usable fonts of the folders; by default matplotlib's own and those under /usr/share/fonts.

    ValueError where no file writes Latin letters.
    """
    places = list(folders) or [Path(matplotlib.get_data_path()) / "fonts" / "ttf", SYSTEM_FONTS]
    found = sorted(
        {path.name: path for place in places for path in sorted(place.rglob("*")) if is_usable(path)}.values(),
        key=lambda path: path.name,
    )
    files = tuple((path, scripts) for path in found if (scripts := scripts_of(path)))
    fonts = Fonts(files)
    if "latin" not in fonts.scripts():
        told = ", ".join(str(place) for place in places)
        raise ValueError(f"No font with Latin letters is in {told}; pass --fonts with a folder of TTF or OTF files.")
    logger.info("%d fonts, scripts: %s", len(files), ", ".join(fonts.scripts()))
    return fonts


def is_usable(path: Path) -> bool:
    """A font file whose name does not say that it holds symbols."""
    name = path.name.lower()
    return path.suffix.lower() in SUFFIXES and not any(word in name for word in UNWANTED)


def scripts_of(path: Path) -> frozenset[Script]:
    """The scripts of which a font file has all letters of ALPHABETS; none for a file that cannot be read."""
    try:
        with TTFont(path, lazy=True) as font:
            letters = set(font.getBestCmap() or {})
    except (OSError, TTLibError, AssertionError) as error:
        logger.warning("font %s left out: %s", path, error)
        return frozenset()
    return frozenset(script for script, alphabet in ALPHABETS.items() if letters.issuperset(map(ord, alphabet)))


@lru_cache(maxsize=256)
def load_font(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    """The font at a size of size_px pixels to the em."""
    return ImageFont.truetype(str(path), max(4, size_px))


def phrase(rng: np.random.Generator, words: int, script: Script = "latin") -> str:
    """That many random words of the script, with some numbers and marks between them."""
    if script == "han":
        return "".join(rng.choice(list(ALPHABETS["han"]), size=2 * words))
    told = []
    for _ in range(words):
        if rng.random() < 0.08:
            told.append(number_text(rng))
        elif script == "latin":
            told.append(str(rng.choice(WORDS)))
        else:
            small = [letter for letter in ALPHABETS[script] if letter.islower()]
            told.append("".join(rng.choice(small, size=int(rng.integers(2, 10)))))
        if rng.random() < 0.12:
            told[-1] += str(rng.choice([",", ".", "!", "?", ":", ";"]))
    told[0] = told[0].capitalize()
    return " ".join(told)


def number_text(rng: np.random.Generator) -> str:
    """A number as it stands in texts: "1984", "3.50", "12%"."""
    kind = int(rng.integers(4))
    if kind == 0:
        return str(int(rng.integers(1, 10_000)))
    if kind == 1:
        return f"{rng.uniform(0, 100):.2f}"
    if kind == 2:
        return f"{int(rng.integers(1, 100))}%"
    return f"{int(rng.integers(1, 24)):02d}:{int(rng.integers(60)):02d}"

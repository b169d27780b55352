"""Charts by matplotlib, as they stand in reports and slides."""

from __future__ import annotations

import warnings
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from training.tools.drawing.fonts import Fonts, phrase

STYLES = ("default", "ggplot", "bmh", "classic", "dark_background", "grayscale", "Solarize_Light2")
MAPS = ("viridis", "plasma", "coolwarm", "gray", "cividis", "RdYlGn")


def draw_chart(rng: np.random.Generator, fonts: Fonts, side: int) -> Image.Image:
    """One to four charts on a sheet of side x side pixels."""
    dpi = float(rng.choice([72, 100, 130]))
    style = STYLES[int(rng.integers(len(STYLES)))]
    font = fonts.choose(rng)
    font_manager.fontManager.addfont(str(font))
    name = font_manager.FontProperties(fname=str(font)).get_name()
    with matplotlib.style.context(["default", style]), matplotlib.rc_context({"font.family": [name, "DejaVu Sans"]}):
        figure = Figure(figsize=(side / dpi, side / dpi), dpi=dpi, layout="tight")
        canvas = FigureCanvasAgg(figure)
        rows, columns = ((1, 1), (2, 1), (2, 2), (1, 2))[int(rng.integers(4))]
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            draw_axes(axes, rng)
        if rng.random() < 0.4:
            figure.suptitle(phrase(rng, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # labels that do not fit are cut off, as in life
            canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels[..., :3].copy())


def draw_axes(axes: Any, rng: np.random.Generator) -> None:
    """One chart of random data with its labels."""
    kind, count = int(rng.integers(7)), int(rng.integers(4, 9))
    names = [phrase(rng, 1)[:8] for _ in range(count)]
    if kind == 0:
        for number in range(int(rng.integers(1, 5))):
            marker = str(rng.choice(["", "o", "s", "^", "x"]))
            dash, pen = str(rng.choice(["-", "--", ":", "-."])), float(rng.uniform(0.8, 3))
            axes.plot(np.cumsum(rng.normal(0, 1, 30)), dash, marker=marker, linewidth=pen, label=names[number])
        axes.legend()
    elif kind == 1:
        places = np.arange(count)
        axes.bar(places, rng.uniform(1, 10, count), yerr=rng.uniform(0.1, 1, count) if rng.random() < 0.5 else None)
        axes.set_xticks(places, names, rotation=45)
    elif kind == 2:
        axes.scatter(*rng.normal(0, 1, (2, 120)), c=rng.random(120), s=rng.uniform(4, 90, 120), cmap=pick_map(rng))
    elif kind == 3:
        axes.pie(rng.uniform(1, 5, count), labels=names, autopct="%1.0f%%")
    elif kind == 4:
        axes.hist(
            rng.normal(0, 1, (300, 2)), bins=14, label=names[:2], edgecolor="black" if rng.random() < 0.5 else None
        )
        axes.legend()
    elif kind == 5:
        values = rng.uniform(0, 10, (count, count))
        axes.imshow(values, cmap=pick_map(rng))
        for row, column in np.ndindex(count, count):
            axes.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", fontsize=7)
    else:
        x, y = np.meshgrid(np.linspace(-3, 3, 60), np.linspace(-3, 3, 60))
        height = np.sin(x * rng.uniform(0.5, 2)) + np.cos(y * rng.uniform(0.5, 2)) + 0.1 * x * y
        axes.clabel(axes.contour(x, y, height, int(rng.integers(6, 16)), cmap=pick_map(rng)), fontsize=7)
    if kind not in (3, 5) and rng.random() < 0.7:
        axes.grid(True, alpha=0.5)
    axes.set_title(phrase(rng, int(rng.integers(1, 4))))
    if kind != 3:
        axes.set_xlabel(phrase(rng, 2))
        axes.set_ylabel(phrase(rng, 2))


def pick_map(rng: np.random.Generator) -> str:
    """The name of a colour map."""
    return MAPS[int(rng.integers(len(MAPS)))]

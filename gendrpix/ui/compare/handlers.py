"""The compare tab's handlers: what the photo and the settings ask for, the run, what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from gendrpix.settings.recipe import Recipe
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.compare.links import as_settings, from_query, recipe_line
from gendrpix.ui.compare.widgets import CompareWidgets
from gendrpix.ui.engine.cancel import CancelToken
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.request import Photo, Place, Request
from gendrpix.ui.engine.results import Results, save_16_bits, save_result, scorecard
from gendrpix.ui.panels.maps import OFF
from gendrpix.ui.panels.pareto import Run
from gendrpix.ui.widgets.checks import check_filled
from gendrpix.ui.widgets.errors import user_errors

if TYPE_CHECKING:
    from gendrpix.comparison.comparison import Measurement

DOWNLOAD = "Download saves the picture on the right."
Updates = dict[Any, Any]


class Comparing:
    """Handlers of one compare tab; they return updates keyed by its widgets."""

    def __init__(self, engine: Engine, tab: CompareWidgets) -> None:
        self.engine = engine
        self.tab = tab
        self.names = tuple(tab.inputs)

    # Before a run --------------------------------------------------------------------------------------------------

    def as_request(self, values: tuple[Any, ...]) -> Request:
        """The widgets' raw values, in the order of the tab's inputs, as a request. Raises ValueError."""
        given = dict(zip(self.names, values, strict=True))
        texts = ("photo", "truth", "restorers", "guidance", "size_px")
        check_filled(*(given[name] for name in self.names if name not in texts))
        if given["by_size"]:
            check_filled(given["size_px"])
        place = Place(given["across"] / 100, given["down"] / 100, int(given["side_px"]))
        return Request.of(
            given["photo"],
            given["restorers"],
            as_settings(given),
            truth=given["truth"],
            region=place if given["crop"] else None,
            repeats=int(given["repeats"]),
        )

    def check_photo(self, photo: Photo | None, *values: Any) -> Any:
        """Read the photo at once, so that a broken one is refused when it is chosen; tell both sizes, or the limit."""
        if photo is None:
            return gr.update(visible=False)
        with user_errors():
            given = dict(zip(self.names[1:], values, strict=True))
            request = self.as_request((photo, *{**given, "restorers": ["gendr"]}.values()))
            return gr.update(value=self.engine.read_sizes(request), visible=True)

    def forecast(self, *values: Any) -> Any:
        """The time and the memory to expect; nothing while something is missing, the proposal where it cannot fit."""
        photo, restorers = values[:2]
        if not photo or not restorers:
            return gr.update(visible=False)
        with user_errors():
            try:
                said = self.engine.forecast(self.as_request(values))
            except ValueError as error:  # it is an answer here; Run refuses with the same sentence
                said = f"**{error}**"
            return gr.update(value=said, visible=True)

    def load_settings(self, path: str) -> Updates:
        """Take the settings that a result's PNG carries."""
        tab = self.tab
        with user_errors():
            recipe = Recipe.from_png(Path(path))
            settings = recipe.settings
            line = recipe_line(recipe, self.engine.weights_name, self.engine.digest(settings.restorer))
            return {
                tab.restorers: [settings.choice],
                **tab.sized(settings.scale, settings.size_px),
                **tab.padcfg.taken(settings),
                **tab.options.taken(settings),
                tab.options.loaded: gr.update(value=line, visible=True),
            }

    def take_link(self, request: gr.Request) -> Updates:
        """The settings that the page's own address names."""
        with user_errors():
            found = from_query(dict(request.query_params))
            updates = {self.tab.inputs[name]: value for name, value in found.items()}
            updates |= self.tab.sized(found.get("scale"), found.get("size_px"))
            return updates or gr.skip()  # Gradio takes an empty mapping for a value

    # The run -------------------------------------------------------------------------------------------------------

    def run_restorers(
        self,
        history: list[Run],
        metric: str | None,
        *values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way
    ) -> Iterator[Updates]:
        """Run: the input first, then each result as it is ready."""
        with user_errors():
            yield from self._guarded(self.as_request(values), history, metric, progress)

    def run_whole(
        self,
        history: list[Run],
        metric: str | None,
        results: Results | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """After a run on a part: the restorer on the right, with that run's settings, on the whole photo."""
        with user_errors():
            request = None if results is None else results.request
            if results is None or request is None:
                raise ValueError("There is no result on a part of a photo yet. Press Run first.")
            names = (self._chosen(results),)
            whole = replace(request.settings, crop=None)
            request = replace(request, region=None, names=names, settings=whole)
            yield from self._guarded(request, history, metric, progress)

    def _chosen(self, results: Results) -> str:
        """The restorer on the right, or the last that ran where the input is there."""
        chosen = results.right if results.right.device else results.measurements[-1]
        return chosen.name

    def _guarded(self, request: Request, *rest: Any) -> Iterator[Updates]:
        stop = CancelToken()
        yield from self.tab.buttons.guarded(stop, self._run(stop, request, *rest), self.ended)

    def _run(
        self, stop: CancelToken, request: Request, history: list[Run], metric: str | None, progress: gr.Progress
    ) -> Iterator[Updates]:
        tab = self.tab
        locked = gr.update(interactive=False)
        yield {**tab.buttons.running(stop), tab.whole: locked, tab.status: "", **tab.maps.reset()}
        progress(0, desc="Reading the photo")
        job = replace(self.engine.prepare(request), quickest_first=True)
        results = stop.kept = Results(job, request, self.engine.weights_name)
        stream = self.engine.compare(job, stop)
        names = ["the input", *job.labels]
        runs = list(history)
        for step, name in enumerate(names):
            progress((step, len(names)), desc=f"Measuring {name}" if step == 0 else f"Running {name}")
            one, result, image = next(stream)
            entries = self.engine.png_entries(one.name, result.settings, job)
            path = save_result(image, results.folder, request.stem, one.name, entries)
            deep = None
            if job.settings.bits == 16:
                deep = save_16_bits(result, job.picture, results.folder, request.stem, one.name, entries)
            results.add(one, path, deep)
            if one.seconds is not None:
                runs.append(Run.of(one, request.photo_name))
            yield {tab.session: results, **self._shown(results), **self._scored(results)}
        yield {
            **tab.buttons.idle(),
            tab.whole: gr.update(interactive=True),
            tab.status: summary(results.measurements),
            **tab.history.shown(runs, metric),
        }

    def ended(self, results: Results | None, how: str) -> Updates:
        """After a cancel or an error: what is ready stays, said in words."""
        done = max(0, len(results.labels) - 1) if results else 0
        kept = f"{done} finished result{'s' * (done != 1)} kept." if done else "No restorer had finished."
        scored = self._scored(results, stopped=True)
        return {self.tab.whole: gr.update(interactive=True), **scored, self.tab.status: f"{how} {kept}"}

    # What is shown -------------------------------------------------------------------------------------------------

    def choose_pair(self, results: Results | None, left: str, right: str, kind: str = OFF) -> Updates:
        """Show the two chosen pictures and their map; the right one is what Download saves."""
        if results is None:
            return {self.tab.viewer.slider: gr.skip()}
        with user_errors():
            results.choose(left, right)
            shown = {self.tab.viewer.slider: results.pair_files, **self._right(results)}
            return {**shown, **self.tab.maps.drawn(results, kind)}

    def draw_map(self, results: Results | None, kind: str) -> Updates:
        """The map of the pictures beside each other."""
        with user_errors():
            return self.tab.maps.drawn(results, kind)

    def _shown(self, results: Results) -> Updates:
        return {
            self.tab.empty: gr.update(visible=False),
            **self.tab.viewer.shown(results),
            **self.tab.maps.shown(),
            **self._right(results),
        }

    def _right(self, results: Results) -> Updates:
        """All that goes with the picture on the right."""
        _, label = results.pair
        chosen = CHOICE_LABELS.get(self._chosen(results))
        return {
            self.tab.download: gr.update(
                value=str(results.downloads[label]), label=f"Download {label} as PNG", visible=True
            ),
            self.tab.whole: gr.update(
                value=f"{chosen} on the whole photo", visible=results.crop is not None and chosen is not None
            ),
            **self.tab.share.shown(results),
        }

    def _scored(self, results: Results | None, *, stopped: bool = False) -> Updates:
        if results is None:
            return {}
        table = scorecard(results.expected, results.measurements, stopped=stopped)
        return {
            self.tab.table: gr.update(value=table.to_markdown(), visible=True),
            self.tab.table_notes: gr.update(value=" ".join(table.notes), visible=bool(table.notes)),
        }


def summary(measurements: list[Measurement]) -> str:
    """One sentence once all is done."""
    fastest = min((one for one in measurements if one.seconds), key=lambda one: one.seconds or 0.0)
    if fastest.ratio is None or fastest.ratio <= 1:
        return f"Done. {DOWNLOAD}"
    how = f"{fastest.ratio:.1f} times as fast as {CHOICE_LABELS['gendr']}"
    return f"Done. {fastest.label} was the fastest: {how}. {DOWNLOAD}"

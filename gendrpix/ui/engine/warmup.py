"""What the server does before the first visitor needs it: loads weights and metrics, and runs every restorer once.

It happens in a thread, one step at a time, each while nobody's run is computed: a run that is being timed has the
device to itself, and waits for one step at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import DEFAULT_OMEGA, Choice
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.engine.late import core
from gendrpix.ui.engine.zerogpu import on_zero_gpu

logger = logging.getLogger(__name__)

WARM_PX = 128
"""Side of the picture that every restorer is run on."""
YIELD_S = 0.01
"""Pause between two steps, in which whoever waits gets the turn."""


def load_in_background(engine: Engine) -> threading.Thread:
    """Begin, unless all is loaded, and give back the thread."""
    thread = threading.Thread(target=load, args=(engine,), name="gendrpix-load", daemon=True)
    thread.start()
    return thread


def load(engine: Engine) -> None:
    """All steps, once; what fails is said in the log, and met by the first run again, which says it to the visitor."""
    if engine.loaded:
        return
    try:
        for step in steps(engine):
            with engine.turn():
                step()
            time.sleep(YIELD_S)
    except Exception as error:
        logger.warning("the restorers could not be loaded ahead of the first run", exc_info=error)
    else:
        engine.loaded = True
        logger.info("restorers loaded")


def steps(engine: Engine) -> Iterator[Callable[[], object]]:
    """What there is to do, in the order in which a visitor needs it."""
    warming = () if on_zero_gpu() else (partial(warm, engine),)  # there nothing may run before the GPU is lent
    for act in (engine.pipeline, *warming, engine.digest):
        for name in get_args(Choice):
            yield partial(act, name)
    for name in engine.scorer.names:
        if not core.METRICS[name].needs_truth:  # the others are loaded with the first truth
            yield partial(engine.scorer.unavailable, name)


def warm(engine: Engine, name: Choice) -> None:
    """Run a restorer on a grey picture: its libraries are loaded then, and its time is a rate for forecasts."""
    import torch

    grey, settings = core.Picture(color=torch.zeros(1, 3, WARM_PX, WARM_PX)), warm_settings(name)
    pipeline = engine.pipeline(name)
    line = core.run_choice(grey, settings, pipeline, core.Scorer(()))
    engine.rates.learn(line.measurement)
    core.plan_choice(name, WARM_PX, WARM_PX, settings, pipeline)  # traces the memory, which is kept


def warm_settings(choice: Choice) -> RestoreSettings:
    """At the photo's own size; gendr-pix in two passes, as visitors ask for it."""
    return RestoreSettings(scale=1.0, guidance=DEFAULT_OMEGA).for_choice(choice)

"""What the server changes in Gradio."""

import copy
from typing import Any

import gradio as gr
import pytest
from gradio import networking, processing_utils, utils
from hypothesis import given
from hypothesis import strategies as st

from gendrpix.ui.server import gradio_patches
from gendrpix.ui.server.gradio_patches import answers, harden_gradio, whole_update

UPDATES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def applied(shown: Any, edits: list[list[Any]]) -> Any:
    """What Gradio's page makes of an update and the edits of the next: it changes the update itself."""
    for action, path, value in edits:
        if not path:
            shown = shown + value if action == "append" else value
            continue
        place = shown
        for key in path[:-1]:
            place = place[key]
        if action == "delete":
            del place[path[-1]]
        elif action == "append":
            place[path[-1]] += value
        elif action == "add" and isinstance(place, list):
            place.insert(path[-1], value)
        else:
            place[path[-1]] = value
    return shown


@given(old=UPDATES, new=UPDATES)
def test_an_update_that_waits_to_be_shown_is_not_touched_by_the_next(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    assert applied(old, whole_update(old, new)) == new
    assert old == before


def test_gradios_own_edits_lose_it_and_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when Gradio has mended it: then `whole_update` can go."""
    for module, name in ((utils, "diff"), (networking, "url_ok"), (processing_utils, "async_ssrf_protected_download")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    table, nothing = {**gr.update(value="the last result", visible=True)}, {**gr.update()}
    applied(table, utils.diff(table, nothing))
    assert "value" not in table
    harden_gradio()
    assert utils.diff is whole_update


def test_a_server_that_is_slow_to_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([False, False, True])
    monkeypatch.setattr(gradio_patches, "url_ok", lambda url: next(said))
    assert answers("http://127.0.0.1:1")
    monkeypatch.setattr(gradio_patches, "url_ok", lambda url: False)
    assert not answers("http://127.0.0.1:1")


def test_the_queue_keeps_few_records_of_past_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself Gradio keeps 10,000, for a page that is closed here: memory that grows with every job."""
    for module, name in ((utils, "diff"), (networking, "url_ok"), (processing_utils, "async_ssrf_protected_download")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setenv("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    monkeypatch.delenv("GRADIO_ANALYTICS_MAX_EVENTS")  # put back afterwards
    harden_gradio()
    with gr.Blocks() as page:
        pass
    assert page.queue()._queue.ANALYTICS_MAX_EVENTS == 100

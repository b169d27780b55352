"""Make a result again, and show it: the command, Python, a link with the settings, a page that needs no server."""

from __future__ import annotations

import base64
import html
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import gradio as gr

from gendrpix.settings.reproduce import to_command, to_python
from gendrpix.ui.compare.links import to_query
from gendrpix.ui.engine.results import Results, file_name
from gendrpix.ui.widgets.errors import user_errors

PAGE = resources.files(__package__) / "slider_page.html"
TAKE_ADDRESS = "(address, ...settings) => [window.location.origin + window.location.pathname, ...settings]"
HINT = (
    "The command and the Python give the same pixels on the same machine; write your photo's path for its name. "
    "The PNG carries these settings too. Nothing is drawn at random, so there is no seed."
)
ONLY_RESIZED = "# The input is only resized; there is nothing to run."
Updates = dict[Any, Any]


class SharePanel:
    """Widgets and handlers, hidden until there is a result."""

    def __init__(self) -> None:
        with gr.Accordion("Make it again, share it", open=False, visible=False, elem_id="again") as self.panel:
            gr.Markdown(HINT, elem_classes="hint")
            self.command = copied("Command", 2, "command")
            self.python = copied("Python", 5, "python")
            with gr.Row():
                self.make_page = gr.Button("Make a page of both pictures", size="md", elem_id="make-page")
                self.make_link = gr.Button("Make a link with the settings above", size="md", elem_id="make-link")
            self.page = gr.DownloadButton(
                "Download the page (one HTML file, opens offline)", size="md", visible=False, elem_id="page-file"
            )
            self.link = copied("Link: opens this page with the settings; of photos it knows the examples", 1, "link")
            self.address = gr.Textbox(visible=False)

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` updates."""
        return [self.panel, self.command, self.python, self.page]

    def wire(self, session: gr.State, settings: dict[str, Any]) -> None:
        """`settings`: the tab's inputs by name."""
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "preprocess": False}
        self.names = tuple(settings)
        self.make_page.click(self.write_page, session, self.page, **private)
        self.make_link.click(self.write_link, [self.address, *settings.values()], self.link, js=TAKE_ADDRESS, **private)

    def shown(self, results: Results) -> Updates:
        """The right picture's command and Python."""
        return {
            self.panel: gr.update(visible=True),
            self.command: command_of(results),
            self.python: python_of(results),
            self.page: gr.update(value=None, visible=False),
        }

    def write_page(self, results: Results | None) -> Any:
        """The two pictures that are beside each other as one HTML file."""
        with user_errors():
            if results is None:
                raise ValueError("There is no result yet. Press Run first.")
            left, right = results.pair
            text = Template(PAGE.read_text(encoding="utf-8")).substitute(
                title=html.escape(f"{results.photo_name}: {left} and {right}"),
                left=as_data(results.files[left]),
                right=as_data(results.files[right]),
                left_label=html.escape(left),
                right_label=html.escape(right),
                recipe=html.escape(command_of(results)),
            )
            path = results.folder / file_name(Path(results.photo_name).stem, f"{left}_{right}", ".html")
            path.write_text(text, encoding="utf-8")
            return gr.update(value=str(path), visible=True)

    def write_link(self, address: str, *values: Any) -> str:
        """The page's own address with the settings as its query."""
        with user_errors():
            return f"{address}?{to_query(dict(zip(self.names, values, strict=True)))}"


def command_of(results: Results) -> str:
    """The command that makes the right picture again."""
    one = results.right
    return to_command(one.settings, results.photo_name, results.weights) if one.device else ONLY_RESIZED


def python_of(results: Results) -> str:
    """The lines of Python that make the right picture again."""
    one = results.right
    if not one.device:
        return ONLY_RESIZED
    return to_python(one.settings, results.photo_name, results.weights, device=one.device.split()[0])


def as_data(path: Path) -> str:
    """A PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def copied(label: str, lines: int, elem_id: str) -> gr.Textbox:
    """A text to be copied."""
    return gr.Textbox(
        label=label, lines=lines, max_lines=lines + 3, buttons=["copy"], interactive=False, elem_id=elem_id
    )

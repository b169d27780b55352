"""The page's looks: one theme, fonts of the visitor's own system, one small style sheet."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import gradio as gr

STYLE_SHEET = Path(str(resources.files(__package__) / "style.css"))


def build_theme() -> gr.themes.Base:
    """Gradio's default theme in teal and slate. Named system fonts only: the page asks no other server for anything."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",  # Gradio's own, and its links, are too faint for WCAG AA
        body_text_color_subdued_dark="*neutral_400",
        link_text_color="*secondary_700",
        link_text_color_active="*secondary_700",
        link_text_color_hover="*secondary_800",
        link_text_color_visited="*secondary_700",
    )

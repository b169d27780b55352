"""Widgets that several tabs use, the theme, and errors as users see them."""

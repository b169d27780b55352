"""Panels of the compare tab."""

"""Restoration networks of others, run from their files."""

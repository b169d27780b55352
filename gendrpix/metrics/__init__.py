"""Metrics of pictures, and the time and memory of a call."""

"""Weights: finding, checking, loading and uploading them."""

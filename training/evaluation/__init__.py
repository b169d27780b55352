"""Restorers compared on sets of pictures: scores, intervals, tables, figures."""

"""Benchmarks: time, memory and cost of each restorer."""

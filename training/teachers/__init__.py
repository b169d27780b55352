"""Pixel teachers: networks whose pictures a student learns from, computed once and kept."""

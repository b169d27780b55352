"""One training loop a stage."""

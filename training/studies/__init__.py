"""Several evaluations or training runs together."""

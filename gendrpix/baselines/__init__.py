"""Networks of other methods."""

"""Several restorers on one picture, and what is learned from it."""

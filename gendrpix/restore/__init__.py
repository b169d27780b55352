"""Restoring: guidance, the restorers, and the memory that they take."""

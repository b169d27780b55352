"""Photos, degraded crops of them, and their order."""

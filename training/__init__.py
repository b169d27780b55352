"""Training of the restorers: one loop a stage, started by `python -m training STAGE`."""

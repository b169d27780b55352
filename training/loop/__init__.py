"""What every stage's loop stands on: checkpoints, average, validation, export."""

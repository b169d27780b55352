"""Results for real photos without a truth: figures, sheets to look at, and a vote."""

"""First weights for a stage's network, computed and not trained."""

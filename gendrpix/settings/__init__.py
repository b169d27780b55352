"""What a user can ask for: options, presets, recipes, and their checks."""

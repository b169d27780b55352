"""Jobs of many pictures."""

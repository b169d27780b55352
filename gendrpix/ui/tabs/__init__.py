"""The page's other tabs."""

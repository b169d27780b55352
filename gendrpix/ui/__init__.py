"""The page: one module a tab, builders and handlers only; every computation is a call of the core."""

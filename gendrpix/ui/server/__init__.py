"""The server: limits, middleware, logs, temporary files."""

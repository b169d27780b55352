"""Tables, plots and maps of results."""

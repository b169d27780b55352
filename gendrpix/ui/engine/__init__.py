"""What the page asks of the restorers: requests, results, cancelling, one run at a time."""

"""Long runs that the page starts: batches, benchmarks, sweeps."""

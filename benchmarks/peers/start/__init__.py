"""Who starts from a cold store; see `benchmarks.tasks.start`."""

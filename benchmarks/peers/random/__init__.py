"""Who reads random samples; see `benchmarks.tasks.random`."""

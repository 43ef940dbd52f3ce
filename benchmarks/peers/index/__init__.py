"""Who indexes tars; see `benchmarks.tasks.index`."""

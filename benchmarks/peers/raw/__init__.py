"""Who loads raw bytes in batches; see `benchmarks.tasks.raw`."""

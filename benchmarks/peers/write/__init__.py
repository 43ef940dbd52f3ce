"""Who writes shards; see `benchmarks.tasks.write`."""

"""Who packs tokens; see `benchmarks.tasks.tokens`."""

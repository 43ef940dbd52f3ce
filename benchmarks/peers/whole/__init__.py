"""Who gets whole objects; see `benchmarks.tasks.whole`."""

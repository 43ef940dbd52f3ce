"""Who delivers crops of pixels that were decoded before; see `benchmarks.tasks.pixels`."""

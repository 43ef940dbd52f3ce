"""Who feeds emulated accelerators; see `benchmarks.tasks.accelerators`."""

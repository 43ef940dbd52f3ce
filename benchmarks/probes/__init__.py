"""What is held against limits: one program a task, see `benchmarks.limits`."""

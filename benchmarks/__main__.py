"""`python -m benchmarks`, from the project's root."""

from benchmarks.cli import app

app(prog_name="python -m benchmarks")

"""Several processes that each write a share of the files, for writers that leave this to their users."""

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path

Share = Callable[[list[str], Path, int], None]
"""Writes these files into this folder; the last argument is the number of the process."""


def write_shares(write: Share, files: Sequence[str], out: Path, *, processes: int) -> None:
    """Fork `processes` and wait for them: fork, because then nothing is imported again. Raises RuntimeError if one fails."""
    fork = multiprocessing.get_context("fork")
    step = -(-len(files) // processes)
    crew = [fork.Process(target=write, args=(list(files[i * step : (i + 1) * step]), out, i)) for i in range(processes)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    if any(process.exitcode for process in crew):
        raise RuntimeError(f"a writing process ended with {[process.exitcode for process in crew]}")

"""Who calls functions of the user's: the threads of a loader or, where code holds the interpreter, processes: spawned, fed through shared
memory, replaced when one dies.

Worker processes import this package, so nothing in it loads more than numpy: they are ready as soon as their function is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loaders.workers.crew import Crew
from loaders.workers.job import Here, Job

if TYPE_CHECKING:  # compiled code comes with these
    from loaders.transforms import Map
    from loaders.transforms.plan import Doer

__all__ = ["hire"]


def hire(op: Map, shape: tuple[int, ...]) -> Doer:
    """Who does `op`, whose results have this shape."""
    job = Job(op.fn, shape, np.dtype(np.uint8 if op.dtype is None else op.dtype), op.random)
    return Crew(job, count=op.processes) if op.processes else Here(job)

"""What the probes of peers share: a limit of memory, and a size that they can hold."""

import resource
import time
from collections.abc import Callable
from typing import Any

from benchmarks.limits import memory

MOST_BYTES = 10 << 30


def measured(samples: int, resume: Callable[[], int]) -> dict[str, Any]:
    """The answer of a peer's probe: what `resume` takes, which returns how many places of the next batch it has found.

    A process that wants more than 10 GiB gets a MemoryError instead, so that it does not take the machine with it.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    imports = memory("VmRSS")
    started = time.perf_counter()
    try:
        found = resume()
    except MemoryError:
        return {"error": f"{samples:,} samples: more than {MOST_BYTES >> 30} GiB of memory after {time.perf_counter() - started:.0f} s"}
    seconds = time.perf_counter() - started
    if not found:
        raise AssertionError("no places of a next batch were found")
    return {"figures": {"resume": seconds * 1e3, "memory": memory("VmHWM") - imports, "samples": samples}}

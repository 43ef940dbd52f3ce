"""Whole objects from an S3 server on this machine: through this project's store, and by bare obstore, on as many threads.

The server is nginx over a folder of tars; requests are path-style and not signed. Both sides get every object of a list, in the same order,
each a new one of the same settings. `objects` also checks each against its BLAKE3, as everything does that reads whole objects of a lake.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3

from benchmarks.datasets import described, make_inputs
from benchmarks.servers import nginx
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

BUCKET = "bucket"
CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class Job:
    """`names` are objects of the bucket at `endpoint`; `sizes` and `digests` (BLAKE3) those of their bytes."""

    batch: int
    threads: int
    endpoint: str
    names: list[str]
    sizes: list[int]
    digests: list[str]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**value)

    @property
    def options(self) -> dict[str, str]:
        """obstore's configuration of the bucket, the same for all contenders."""
        return {"endpoint": self.endpoint, "region": "us-east-1", "skip_signature": "true", "virtual_hosted_style_request": "false"}


def prepare(request: Request) -> Prepared:
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=2)
    served = inputs.folder / "served"
    digests = [blake3().update_mmap(tar).hexdigest() for tar in inputs.tars]
    names = [f"objects/{hexed[:2]}/{hexed}.tar" for hexed in digests]
    for name, tar in zip(names, inputs.tars, strict=True):
        path = served / BUCKET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(tar, path)
    sizes = [tar.stat().st_size for tar in inputs.tars]
    stack = ExitStack()
    endpoint = stack.enter_context(nginx(served, inputs.folder / "nginx"))
    job = Job(0, request.threads, endpoint, names, sizes, digests)
    told = described(inputs) | {"objects": len(names), "bytes": sum(sizes), "server": "nginx"}
    return Prepared(job=asdict(job), data=told, close=stack.close)


TASK = Task(
    name="whole",
    summary=f"whole objects from an S3 server on this machine, {CONCURRENCY} at once",
    contenders=(
        Contender("dataplane", "benchmarks.peers.whole.dataplane", "get() of this project's store", "MB/s", "ours"),
        Contender("objects", "benchmarks.peers.whole.objects", "the same, each checked against its BLAKE3", "MB/s", "ours"),
        Contender("obstore", "benchmarks.peers.whole.obstore", "get() of obstore's S3Store", "MB/s", "peer"),
    ),
    prepare=prepare,
    samples=4096,
    threads=CONCURRENCY,
    targets=(Target(("obstore",), 0.9),),
)

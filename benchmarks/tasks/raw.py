"""Raw bytes, shuffled, in batches of one contiguous buffer each: photographs as they are, from the page cache, on two threads or processes.

A batch is a buffer with the bytes of its samples side by side, and where each of them begins. It is made by whoever loads, not by the
consumer, who only counts bytes. The bound reads the same tars with `read()`, 1 MiB at a time, on as many threads.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets import described, make_inputs
from benchmarks.environments import LITDATA, MOSAIC
from benchmarks.tasks import Contender, Prepared, Request, Target, Task
from benchmarks.tasks.write import digest

BATCH = 64
UNIT = "samples/s"


@dataclass(frozen=True, slots=True)
class Job:
    """`tree` and `tars` hold the same `samples` photographs of `bytes` bytes; `digests` counts their contents. `scratch` is for what a
    contender makes of them."""

    threads: int
    batch: int
    seed: int
    tree: str
    tars: list[str]
    scratch: str
    samples: int
    bytes: int
    digests: Mapping[str, int]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**value)

    @property
    def files(self) -> list[str]:
        """The paths of the photographs, in the order of their names."""
        return sorted(str(path) for path in Path(self.tree).rglob("*.jpg"))


def prepare(request: Request) -> Prepared:
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=2)
    scratch = inputs.folder / "raw"
    scratch.mkdir(exist_ok=True)
    digests = {digest(path.read_bytes()): times for path, times in zip(inputs.sources, inputs.repeats, strict=True)}
    size = sum(path.stat().st_size * times for path, times in zip(inputs.sources, inputs.repeats, strict=True))
    tars = [str(path.resolve()) for path in inputs.tars]
    job = Job(request.threads, BATCH, 0, str(inputs.tree.resolve()), tars, str(scratch.resolve()), inputs.samples, size, digests)
    return Prepared(job=asdict(job), data=described(inputs))


TASK = Task(
    name="raw",
    summary=f"raw bytes, shuffled, {BATCH} photographs in one contiguous buffer",
    contenders=(
        Contender("dataplane", "benchmarks.peers.raw.dataplane", "Loader with Bytes()", UNIT, "ours"),
        Contender("litdata", "benchmarks.peers.raw.litdata", "StreamingDataLoader", UNIT, "peer", LITDATA),
        Contender("webdataset", "benchmarks.peers.raw.webdataset", "WebDataset in a DataLoader", UNIT, "peer"),
        Contender("mosaic", "benchmarks.peers.raw.mosaic", "mosaicml-streaming in a DataLoader", UNIT, "peer", MOSAIC),
        Contender("read", "benchmarks.peers.raw.read", "read() of the tars, 1 MiB at a time", UNIT, "bound"),
    ),
    prepare=prepare,
    samples=4096,
    threads=2,
    targets=(Target(("read",), 0.6), Target(("litdata",), 2.5), Target(("mosaic",), 10.0)),
)

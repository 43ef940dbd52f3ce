"""Random samples of a warm local dataset: one thread, and each sample's bytes copied into memory of the process.

What is compared is the rate at which one thread gets whole photographs in a shuffled order, all of them once an epoch. The bound reads the
same tars with `read()`, 1 MiB at a time, in their order, from the page cache. Peers shuffle as they do it: whole shards and a buffer
(webdataset), blocks (mosaicml-streaming), chunks and their items (litdata).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.datasets import described, make_inputs
from benchmarks.environments import LITDATA, MOSAIC
from benchmarks.tasks import Contender, Prepared, Request, Target, Task
from benchmarks.tasks.write import digest


@dataclass(frozen=True, slots=True)
class Job:
    """`tree` and `tars` hold the same `samples` photographs of `bytes` bytes; `digests` counts their contents. `scratch` is for what a
    contender makes of them."""

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


def prepare(request: Request) -> Prepared:
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=2)
    scratch = inputs.folder / "random"
    scratch.mkdir(exist_ok=True)
    digests = {digest(path.read_bytes()): times for path, times in zip(inputs.sources, inputs.repeats, strict=True)}
    size = sum(path.stat().st_size * times for path, times in zip(inputs.sources, inputs.repeats, strict=True))
    tars = [str(path.resolve()) for path in inputs.tars]
    job = Job(64, 0, str(inputs.tree.resolve()), tars, str(scratch.resolve()), inputs.samples, size, digests)
    return Prepared(job=asdict(job), data=described(inputs))


TASK = Task(
    name="random",
    summary="random samples of a warm local dataset, one thread, bytes copied",
    contenders=(
        Contender("dataplane", "benchmarks.peers.random.dataplane", "Split.each of shuffled indices", "samples/s", "ours"),
        Contender("many", "benchmarks.peers.random.many", "Split.read_many of 256 of them at a time", "samples/s", "ours"),
        Contender("loader", "benchmarks.peers.random.loader", "what a thread of the Loader reads with, in its order", "samples/s", "ours"),
        Contender("litdata", "benchmarks.peers.random.litdata", "StreamingDataset, shuffled", "samples/s", "peer", LITDATA),
        Contender("webdataset", "benchmarks.peers.random.webdataset", "WebDataset, shards and a buffer shuffled", "samples/s", "peer"),
        Contender("mosaic", "benchmarks.peers.random.mosaic", "mosaicml-streaming, shuffled", "samples/s", "peer", MOSAIC),
        Contender("read", "benchmarks.peers.random.read", "read() of the tars, 1 MiB at a time", "samples/s", "bound"),
    ),
    prepare=prepare,
    samples=4096,
    threads=1,
    targets=(Target(("read",), 0.5),),
)

"""Write shards from a folder of photographs, bytes as they are, and make them durable.

Everyone starts `threads` processes, reads the same files of one tree from the page cache, and leaves shards of about 64 MiB. Within the
measured time all that was written is synced, files and folders: by the system itself where it does so, else by the benchmark right after,
on as many threads. The verification reads everything back with the system's own reader and compares it with the sources, byte for byte.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from benchmarks.datasets import described, make_inputs, staged
from benchmarks.environments import LITDATA, MOSAIC
from benchmarks.peers.protocol import VerificationFailed
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

SHARD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """`tree` holds `samples` files of `bytes` bytes, each a file of its own; `digests` counts their contents."""

    threads: int
    batch: int
    tree: str
    scratch: str
    samples: int
    bytes: int
    digests: Mapping[str, int]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**value)

    @property
    def files(self) -> list[str]:
        """The paths of the sources, in the order of their names."""
        return sorted(str(path) for path in Path(self.tree).rglob("*.jpg"))


def prepare(request: Request) -> Prepared:
    """The tree: a copy of each repeated photograph, so that no two names share a file."""
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=request.threads)
    tree = inputs.folder / "copies"
    if not tree.exists():
        with staged(tree) as staging:
            shutil.copytree(inputs.tree, staging, dirs_exist_ok=True)
    scratch = inputs.folder / "write"
    scratch.mkdir(exist_ok=True)
    digests = {digest(path.read_bytes()): times for path, times in zip(inputs.sources, inputs.repeats, strict=True)}
    size = sum(path.stat().st_size * times for path, times in zip(inputs.sources, inputs.repeats, strict=True))
    job = Job(request.threads, 0, str(tree.resolve()), str(scratch.resolve()), inputs.samples, size, digests)
    return Prepared(job=asdict(job), data=described(inputs))


def digest(data: Any) -> str:
    """What tells contents apart in the verification."""
    return blake3(data).hexdigest(16)


def check_contents(read: Iterable[Any], digests: Mapping[str, int]) -> str:
    """Every source, exactly as often as it should, byte for byte."""
    found = Counter(map(digest, read))
    wrong = [name for name in found.keys() | digests.keys() if found[name] != digests.get(name, 0)]
    if wrong:
        raise VerificationFailed(
            f"{len(wrong)} of {len(digests)} different photographs were not read back as often as they should: "
            f"{found.total()} samples came, {sum(digests.values())} were expected"
        )
    return f"{found.total()} samples read back, equal to their sources byte for byte"


TASK = Task(
    name="write",
    summary="write shards from a folder of JPEGs, bytes as they are, everything synced",
    contenders=(
        Contender("dataplane", "benchmarks.peers.write.dataplane", "this project's ingest, check='structure'", "samples/s", "ours"),
        Contender("webdataset", "benchmarks.peers.write.webdataset", "a ShardWriter in each process", "samples/s", "peer"),
        Contender(
            "mosaic", "benchmarks.peers.write.mosaic", "mosaicml-streaming, an MDSWriter in each process", "samples/s", "peer", MOSAIC
        ),
        Contender("litdata", "benchmarks.peers.write.litdata", "litdata.optimize", "samples/s", "peer", LITDATA),
        Contender("cp", "benchmarks.peers.write.cp", "cp -r, then sync of its file system", "samples/s", "bound"),
        Contender("cp-fsync", "benchmarks.peers.write.cp_fsync", "cp -r, then fsync of every file and folder", "samples/s", "bound"),
    ),
    prepare=prepare,
    samples=4096,
    targets=(Target(("webdataset", "mosaic", "litdata"), 2.0), Target(("cp",), 1 / 1.5)),
)

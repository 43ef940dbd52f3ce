"""Indexing tars that are there, as `adopt` does: the look at each object, up to the bytes of its index. Nothing is copied.

Once on tars of photographs, where payloads are jumped over, and once on a tar of members of 2 kB, where there is a header in every few
blocks; each beside reading the same files with `read()` from the page cache. And once over HTTP, where what counts is how much is fetched:
its verification holds the server's own log against the size of the files. Rates are bytes of tar a second, in MB/s, on one thread.
"""

import io
import os
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import described, make_inputs, staged
from benchmarks.servers import nginx
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

SMALL_BYTES = 2000
SMALL_A_SAMPLE = 16


@dataclass(frozen=True, slots=True)
class Tars:
    """Files with so many members and bytes in all; `urls` is where the same files are served."""

    paths: list[str]
    urls: list[str]
    members: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """`scratch` of the server has its log."""

    batch: int
    scratch: str
    photographs: Tars
    small: Tars

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**{**value, "photographs": Tars(**value["photographs"]), "small": Tars(**value["small"])})


def prepare(request: Request) -> Prepared:
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=2)
    folder = inputs.folder / "index"
    if not folder.exists():
        with staged(folder) as staging:
            for tar in inputs.tars:
                os.link(tar, staging / tar.name)
            write_small(staging / "small.tar", members=request.samples * SMALL_A_SAMPLE)
    stack = ExitStack()
    scratch = inputs.folder / "nginx"
    endpoint = stack.enter_context(nginx(folder, scratch))
    photographs = _tars([folder / tar.name for tar in inputs.tars], endpoint, members=2 * inputs.samples)
    small = _tars([folder / "small.tar"], endpoint, members=request.samples * SMALL_A_SAMPLE)
    told = described(inputs) | {"bytes": photographs.bytes, "members": photographs.members}
    told |= {"small_bytes": small.bytes, "small_members": small.members}
    return Prepared(job=asdict(Job(0, str(scratch.resolve()), photographs, small)), data=told, close=stack.close)


def _tars(paths: list[Path], endpoint: str, *, members: int) -> Tars:
    urls = [f"{endpoint}/{path.name}" for path in paths]
    return Tars([str(path.resolve()) for path in paths], urls, members, sum(path.stat().st_size for path in paths))


def write_small(path: Path, *, members: int) -> None:
    """A tar of members of 2 kB, one a sample."""
    data = np.random.default_rng(0).bytes(SMALL_BYTES)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(members):
            member = tarfile.TarInfo(f"{number:09d}.bin")
            member.size = SMALL_BYTES
            archive.addfile(member, io.BytesIO(data))


TASK = Task(
    name="index",
    summary="index tars that are there, one thread",
    contenders=(
        Contender("dataplane", "benchmarks.peers.index.dataplane", "adopt's look at tars of photographs", "MB/s", "ours"),
        Contender("small", "benchmarks.peers.index.small", "the same at a tar of members of 2 kB", "MB/s", "ours"),
        Contender("remote", "benchmarks.peers.index.remote", "the same at photographs behind HTTP", "MB/s", "ours"),
        Contender("tarfile", "benchmarks.peers.index.tarfile", "Python's tarfile, on photographs", "MB/s", "peer"),
        Contender("read", "benchmarks.peers.index.read", "read() of the tars of photographs, 1 MiB at a time", "MB/s", "bound"),
        Contender("read-small", "benchmarks.peers.index.read_small", "read() of the tar of members of 2 kB", "MB/s", "bound"),
    ),
    prepare=prepare,
    samples=4096,
    threads=1,
    targets=(Target(("read",), 0.6), Target(("read-small",), 0.6, ours="small")),
)

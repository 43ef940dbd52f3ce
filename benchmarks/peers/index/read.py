"""The bound: `read()` of the tars of photographs, 1 MiB at a time."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.index import Job

CHUNK_BYTES = 1 << 20
SETUP = "read(), 1 MiB at a time, unbuffered"


def read(path: str) -> int:
    """The bytes of a file, read."""
    size = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK_BYTES):
            size += len(data)
    return size


def open_contender(job: Mapping[str, Any]) -> LookContender:
    tars = Job.from_json(job).photographs
    return LookContender(tars.paths, tars, read, counts=tars.bytes, setup=SETUP, packages=())


if __name__ == "__main__":
    serve(open_contender)

"""The bound: `read()` of the tar of small members, 1 MiB at a time."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.index.read import SETUP, read
from benchmarks.peers.protocol import serve
from benchmarks.tasks.index import Job


def open_contender(job: Mapping[str, Any]) -> LookContender:
    tars = Job.from_json(job).small
    return LookContender(tars.paths, tars, read, counts=tars.bytes, setup=SETUP, packages=())


if __name__ == "__main__":
    serve(open_contender)

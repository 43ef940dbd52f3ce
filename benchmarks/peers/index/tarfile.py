"""Python's tarfile: what an index made by a script costs."""

import tarfile
from collections.abc import Mapping
from typing import Any

from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.index import Job


def members(path: str) -> int:
    """The members of a tar, each with its offset and size."""
    with tarfile.open(path) as archive:
        return len([(member.name, member.offset_data, member.size) for member in archive])


def open_contender(job: Mapping[str, Any]) -> LookContender:
    tars = Job.from_json(job).photographs
    return LookContender(tars.paths, tars, members, counts=tars.members, setup="tarfile.open, all members", packages=())


if __name__ == "__main__":
    serve(open_contender)

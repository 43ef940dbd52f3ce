"""This project: what `adopt` does with each tar, up to the bytes of its index, which go to a store in memory."""

import uuid
from collections.abc import Mapping
from typing import Any

from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.index import Job
from dataplane.adopt.look import look
from dataplane.adopt.options import AdoptOptions
from dataplane.adopt.source import find
from dataplane.objects import Objects
from dataplane.store import open_store

SETUP = "adopt's look at each object, its index into a store in memory, one thread"


class Adopter:
    """Looks at one object, as `adopt` does. Its index goes to a new store each time: one that is there would be read and checked."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def members(self, name: str) -> int:
        """The fields of all its samples, as its index has them."""
        (found,) = find(name, apart="memory://").found
        looked = look(found, "train", AdoptOptions(), Objects(open_store(f"memory://{uuid.uuid4().hex}")))
        if looked.shard is None or looked.bad:
            raise RuntimeError(f"{name} was not taken: {looked.bad}")
        self.bytes_read += looked.bytes_read
        return looked.shard.row.samples * len(looked.shard.fields)


def open_contender(job: Mapping[str, Any]) -> LookContender:
    parsed = Job.from_json(job)
    tars = parsed.photographs
    return LookContender(tars.paths, tars, Adopter().members, counts=tars.members, setup=SETUP)


if __name__ == "__main__":
    serve(open_contender)

"""This project on a tar of small members."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.index.dataplane import SETUP, Adopter
from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.index import Job


def open_contender(job: Mapping[str, Any]) -> LookContender:
    tars = Job.from_json(job).small
    return LookContender(tars.paths, tars, Adopter().members, counts=tars.members, setup=SETUP)


if __name__ == "__main__":
    serve(open_contender)

"""This project on tars behind HTTP. What the server says it has sent is held against the size of the tars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.index.dataplane import SETUP, Adopter
from benchmarks.peers.index.looking import LookContender
from benchmarks.peers.protocol import VerificationFailed, serve
from benchmarks.servers import bytes_sent
from benchmarks.tasks.index import Job

LARGEST_SHARE = 0.5


class RemoteContender(LookContender):
    def __init__(self, job: Job) -> None:
        self.scratch = Path(job.scratch)
        tars = job.photographs
        super().__init__(tars.urls, tars, Adopter().members, counts=tars.members, setup=f"{SETUP}, ranges over HTTP from this machine")

    def verify(self) -> Mapping[str, Any]:
        requests, sent = bytes_sent(self.scratch)
        checks = super().verify()
        now_requests, now_sent = bytes_sent(self.scratch)
        share = (now_sent - sent) / self.tars.bytes
        if share > LARGEST_SHARE:
            raise VerificationFailed(f"{share:.0%} of the tars was fetched; only their headers are wanted")
        return {**checks, "requests": now_requests - requests, "bytes_fetched": now_sent - sent, "share_fetched": round(share, 5)}


def open_contender(job: Mapping[str, Any]) -> RemoteContender:
    return RemoteContender(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)

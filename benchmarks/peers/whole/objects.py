"""This project's objects: whole ones, each checked against its BLAKE3."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.protocol import serve
from benchmarks.peers.whole.getting import GetContender
from benchmarks.tasks.whole import BUCKET, Job
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.store import open_store


def open_contender(job: Mapping[str, Any]) -> GetContender:
    parsed = Job.from_json(job)
    objects = Objects(open_store(f"s3://{BUCKET}", parsed.options))
    refs = [Digest(hexed, ".tar", size) for hexed, size in zip(parsed.digests, parsed.sizes, strict=True)]
    return GetContender(parsed, lambda i: objects.get(refs[i]), setup="Objects.get, BLAKE3 checked", packages=("dataplane", "obstore"))


if __name__ == "__main__":
    serve(open_contender)

"""This project's store: whole objects by `get`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.protocol import serve
from benchmarks.peers.whole.getting import GetContender
from benchmarks.tasks.whole import BUCKET, Job
from dataplane.store import open_store


def open_contender(job: Mapping[str, Any]) -> GetContender:
    parsed = Job.from_json(job)
    store = open_store(f"s3://{BUCKET}", parsed.options)
    return GetContender(
        parsed, lambda i: store.get(parsed.names[i]).buffer(), setup="open_store(…).get(…)", packages=("dataplane", "obstore")
    )


if __name__ == "__main__":
    serve(open_contender)

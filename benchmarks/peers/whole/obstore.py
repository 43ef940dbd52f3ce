"""Bare obstore: an S3Store, and the bytes of what `get` returns."""

from collections.abc import Mapping
from typing import Any

from obstore.store import S3Store

from benchmarks.peers.protocol import serve
from benchmarks.peers.whole.getting import GetContender
from benchmarks.tasks.whole import BUCKET, Job


def open_contender(job: Mapping[str, Any]) -> GetContender:
    parsed = Job.from_json(job)
    config: Any = parsed.options
    store = S3Store(BUCKET, config=config, client_options={"allow_http": True})
    return GetContender(parsed, lambda i: store.get(parsed.names[i]).bytes(), setup="S3Store.get(…).bytes()", packages=("obstore",))


if __name__ == "__main__":
    serve(open_contender)

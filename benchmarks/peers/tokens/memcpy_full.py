"""The bound of batches with positions and segments: three arrays of int32."""

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.peers.protocol import serve
from benchmarks.peers.tokens.memcpy import MemcpyBound
from benchmarks.tasks.tokens import Job


class FullBound(MemcpyBound):
    fields: Final = 3  # type: ignore[misc]


def open_contender(job: Mapping[str, Any]) -> FullBound:
    return FullBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)

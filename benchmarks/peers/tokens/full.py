"""This project's loader with all that `Packed` can say of a token: positions and segments."""

from typing import Final

from benchmarks.peers.protocol import serve
from benchmarks.peers.tokens.dataplane import DataplanePacker
from benchmarks.peers.tokens.packing import opener


class FullPacker(DataplanePacker):
    fields: Final = True  # type: ignore[misc]


if __name__ == "__main__":
    serve(opener(FullPacker))

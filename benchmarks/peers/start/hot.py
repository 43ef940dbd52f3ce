"""This project through an empty hot tier, which fetches whole objects."""

from functools import partial

from benchmarks.peers.protocol import serve
from benchmarks.peers.start.dataplane import DataplaneStarter
from benchmarks.peers.start.starting import opener

if __name__ == "__main__":
    serve(opener(partial(DataplaneStarter, hot=True)))

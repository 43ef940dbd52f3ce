"""A process that commits to a dataset, for tests of many and of killed ones: `committer.py LAKE WRITER COUNT`.

It says "ready", waits for a line on standard input, and writes "WRITER NUMBER VERSION" once each of its commits is acknowledged.
"""

import sys
from dataclasses import replace

from dataplane import Lake
from dataplane.catalog import Change, SplitCount
from tests import make


def commit(lake, writer, number):
    """Add one sample to the dataset, whatever others have added meanwhile."""
    shard = make.finished(lake, "train", [writer * 1000 + number])
    part = make.part(lake, [shard])
    count = SplitCount(1, 1, shard.shard.bytes)

    def rebase(newest):
        if newest is None:
            return Change("add", {"writer": writer, "number": number}, make.SCHEMA, (part,), {"train": count})
        had = newest.splits["train"]
        more = replace(had, samples=had.samples + 1, shards=had.shards + 1, bytes=had.bytes + count.bytes)
        return Change("add", {"writer": writer, "number": number}, make.SCHEMA, (*newest.parts, part), {"train": more})

    return lake.catalog.commit("contended", rebase)


def main():
    url, writer, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lake = Lake(url)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        version = commit(lake, writer, number)
        print(writer, number, version.number, flush=True)


if __name__ == "__main__":
    main()

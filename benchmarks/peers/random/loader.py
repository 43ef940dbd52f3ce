"""This project's loaders: what one of their threads reads with, a scratch of its own, in the order of an epoch. CRCs are checked."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve
from benchmarks.peers.random.dataplane import open_split
from benchmarks.peers.random.reading import opener
from benchmarks.tasks.random import Job
from dataplane.errors import DataplaneError
from dataplane.order import Order, default_lanes, default_window
from loaders.source import SampleSource

TOGETHER = 64


class LoaderReader:
    packages = ("dataplane",)

    def __init__(self, job: Job) -> None:
        self.setup = f"SampleSource, {TOGETHER} spots located at a time, in the order of an epoch, CRCs checked"
        self.split = open_split(job, "lake-loader")
        self.source = SampleSource(self.split, ["jpg"])
        self.seed, self.number = job.seed, 0

    def epoch(self) -> Iterator[Any]:
        counts = self.split.counts
        order = Order(counts, seed=self.seed, epoch=self.number, lanes=default_lanes(1), window=default_window(counts))
        self.number += 1
        walker, reader = order.walker(), self.source.reader()
        for start in range(0, len(order), TOGETHER):
            shards, items = walker.at(np.arange(start, min(start + TOGETHER, len(order))))
            for fields in reader.read(self.source.locate(shards, items)):
                if isinstance(fields, DataplaneError):
                    raise fields
                yield fields["jpg"].data


if __name__ == "__main__":
    serve(opener(LoaderReader))

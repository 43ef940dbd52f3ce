"""Hugging Face datasets: the Parquet files streamed, shuffled, and a map that concatenates and splits a thousand documents at a time.

The map is written with NumPy rather than with lists, and batches come as NumPy arrays: the fastest that its users do in one process. The
stream runs on one thread; two worker processes of a torch DataLoader would at most double its rate.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve
from benchmarks.peers.tokens.packing import opener
from benchmarks.tasks.tokens import Job

TOGETHER = 1000
BUFFER = 1000


class HuggingPacker:
    packages = ("datasets", "pyarrow")

    def __init__(self, job: Job) -> None:
        from datasets import load_dataset

        self.setup = f"load_dataset(streaming=True).with_format('numpy').map(batch_size={TOGETHER}).shuffle({BUFFER}).batch({job.batch})"
        length = job.length

        def split(documents: dict[str, Any]) -> dict[str, Any]:
            stream = np.concatenate(documents["tokens"]).astype(np.int32)
            count = len(stream) // length
            return {"tokens": stream[: count * length].reshape(count, length)}

        text = load_dataset("parquet", data_files=job.files, split="train", streaming=True).with_format("numpy")
        packed = text.map(split, batched=True, batch_size=TOGETHER).shuffle(seed=job.seed, buffer_size=BUFFER)
        self.batches = packed.batch(job.batch)
        self.number = 0

    def epoch(self) -> Iterator[Any]:
        self.batches.set_epoch(self.number)
        self.number += 1
        for batch in self.batches:
            yield np.asarray(batch["tokens"]).astype(np.int32, copy=False)


if __name__ == "__main__":
    serve(opener(HuggingPacker))

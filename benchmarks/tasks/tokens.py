"""Sequences of 2,048 tokens, packed from documents of a Parquet folder and shuffled, in batches of 64, on two threads, warm.

All contenders read the same documents: those of a folder of Parquet files, zstd, uint16, in row groups of a thousand. This project ingests
them first, as it would for training; Hugging Face datasets streams the files with the usual map that concatenates and splits. They deliver
int32 `tokens`, and `full` also each token's position and segment. The bounds copy as many bytes as a batch has, out of a gigabyte, into
batches whose memory is used again: "memcpy" end to end, "gather" a sequence at a time from random places, which is what shuffling asks of
memory.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.datasets import staged
from benchmarks.tasks import Contender, Prepared, Request, Target, Task

VOCABULARY = 50_257
LENGTH = 2048
BATCH = 64
FILES = 16
MEAN_LOG = 6.0  # documents have e^6 = 403 tokens in the middle, and 660 on average
LONGEST = 8192
LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """`files` hold `tokens` tokens of `documents` documents; `counts` is a file with how often each token is there. `scratch` is for what a
    contender makes of them."""

    files: list[str]
    counts: str
    tokens: int
    documents: int
    length: int
    batch: int
    threads: int
    seed: int
    scratch: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        return cls(**value)


def prepare(request: Request) -> Prepared:
    request.cache.mkdir(parents=True, exist_ok=True)
    folder = request.cache / f"tokens-{request.samples}-{LAYOUT_VERSION}"
    if not folder.exists():
        with staged(folder) as staging:
            make_documents(staging, documents=request.samples, files=min(FILES, request.samples))
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    files = [str(path.resolve()) for path in sorted((folder / "text").glob("*.parquet"))]
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    counts = str((folder / "counts.npy").resolve())
    job = Job(files, counts, about["tokens"], about["documents"], LENGTH, BATCH, 2, 0, str(scratch.resolve()))
    return Prepared(job=asdict(job), data={"origin": "random tokens in documents of log-normal length", **about})


def make_documents(folder: Path, *, documents: int, files: int) -> None:
    """Parquet files of random tokens, and how often each token is there."""
    rng = np.random.default_rng(0)
    counts = np.zeros(VOCABULARY, np.int64)
    (folder / "text").mkdir()
    for number, part in enumerate(np.array_split(np.arange(documents), files)):
        lengths = np.minimum(rng.lognormal(MEAN_LOG, 1.0, len(part)), LONGEST).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        tokens = rng.integers(0, VOCABULARY, ends[-1], dtype=np.uint16)
        counts += np.bincount(tokens, minlength=VOCABULARY)
        table = pa.table({"tokens": pa.ListArray.from_arrays(ends, pa.array(tokens))})
        pq.write_table(table, folder / "text" / f"text-{number:03d}.parquet", compression="zstd", row_group_size=1000)
    np.save(folder / "counts.npy", counts)
    about = {"documents": documents, "tokens": int(counts.sum()), "files": files}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


TASK = Task(
    name="tokens",
    summary="shuffled sequences of 2,048 tokens packed from documents, batches of 64, two threads",
    contenders=(
        Contender("dataplane", "benchmarks.peers.tokens.dataplane", "Loader(Packed(…)), tokens alone", "sequences/s", "ours"),
        Contender("full", "benchmarks.peers.tokens.full", "the same with positions and segments", "sequences/s", "ours"),
        Contender(
            "datasets", "benchmarks.peers.tokens.hugging", "Hugging Face datasets streaming, concatenate and split", "sequences/s", "peer"
        ),
        Contender("memcpy", "benchmarks.peers.tokens.memcpy", "copying a batch's tokens, end to end", "sequences/s", "bound"),
        Contender(
            "gather",
            "benchmarks.peers.tokens.gather",
            "copying a batch's tokens, each sequence from a random place",
            "sequences/s",
            "bound",
        ),
        Contender("memcpy-full", "benchmarks.peers.tokens.memcpy_full", "copying as many bytes as `full` delivers", "sequences/s", "bound"),
    ),
    prepare=prepare,
    samples=400_000,
    quick=4_000,
    threads=2,
    targets=(
        Target(("memcpy",), 0.5),
        Target(("gather",), 0.5),
        Target(("memcpy-full",), 0.5, "full"),
        Target(("datasets",), 10.0),
    ),
)

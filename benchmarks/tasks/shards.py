"""A version of a million shards and 10⁹ samples: opening it, planning an epoch, going to any position of it, and one more commit.

The tables of shards are those of a real version: a thousand samples a shard, random digests, sizes and medians that differ, ten thousand
shards a part, since a part is not merged any more once it has 256 MiB of metadata. The metadata are a stand-in, one object of that size
which all parts share and nothing here reads: neither opening a version nor planning nor a commit does. There are no samples.

The commit is what ends a write of samples with new keys, as of a stream: a part with 16 new shards and their metadata is stored, parts that
have piled up are merged, the counts of the splits are added up, and the version is committed. (Where keys may be there already, those of
the dataset are read before: O(samples), in columns.)
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.datasets import staged
from benchmarks.tasks import Limit, LimitTask, Prepared, Request
from dataplane import Lake
from dataplane.catalog import Change, Part
from dataplane.manifest import METADATA, read_shards, write_shards
from dataplane.parts import split_counts
from dataplane.refs import Digest
from dataplane.schema import Field, Schema
from dataplane.shards import ShardRow, Shards

DATASET = "big"
SAMPLES_A_SHARD = 1000
SHARDS_A_PART = 10_000
METADATA_BYTES = 257 << 20
TRAIN = 0.9
FIELDS = (Field("cls", "class"), Field("jpg", "image"))
LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """The lake with the version `DATASET@1`."""

    lake: str
    shards: int
    samples: int


def prepare(request: Request) -> Prepared:
    """Make the version once, in the cache. `request.samples` says how many samples it has."""
    shards = max(1, request.samples // SAMPLES_A_SHARD)
    folder = request.cache / f"shards-{shards}-{LAYOUT_VERSION}"
    request.cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with staged(folder) as staging:
            make_version(Lake.init(str(staging / "lake")), shards)
    job = Job(str((folder / "lake").resolve()), shards, shards * SAMPLES_A_SHARD)
    parts = -(-shards // SHARDS_A_PART)
    return Prepared(job=asdict(job), data={"shards": shards, "samples": job.samples, "parts": parts, "metadata": "a stand-in, never read"})


def make_version(lake: Lake, shards: int, *, train: float = TRAIN) -> None:
    """Commit a version of so many shards to an empty lake; `train` is the share of the split of that name."""
    with tempfile.NamedTemporaryFile() as zeros:
        zeros.truncate(METADATA_BYTES)
        metadata = lake.objects.put_file(Path(zeros.name), suffix=".parquet")
    parts = [(_part(lake, table, metadata), table) for table in _tables(shards, train)]
    lake.catalog.commit(DATASET, lambda _: Change("ingest", {}, Schema(FIELDS), tuple(part for part, _ in parts), split_counts(parts)))


def _part(lake: Lake, shards: Shards, metadata: Digest) -> Part:
    return Part(lake.objects.put(write_shards(shards), suffix=".parquet"), metadata, int(shards.live.sum()))


def _tables(shards: int, train: float) -> Iterator[Shards]:
    for first in range(0, shards, SHARDS_A_PART):
        yield table_of_shards(min(SHARDS_A_PART, shards - first), np.random.default_rng(first), train=train)


def table_of_shards(count: int, rng: np.random.Generator, *, train: float = TRAIN) -> Shards:
    """Shards as an ingest of photographs makes them, in columns; by default nine of ten in the split `train`."""
    size = rng.integers(90_000_000, 120_000_000, count)
    medians = np.stack([np.full(count, 3), rng.integers(90_000, 120_000, count)], axis=1).reshape(-1)
    fields = pa.array(np.tile(np.array([0, 1], np.int32), count))
    names = pa.DictionaryArray.from_arrays(fields, pa.array(["cls", "jpg"])).cast(pa.string())
    columns = {
        "split": pa.array(np.where(rng.random(count) < train, "train", "val")),
        "format": pa.repeat("tar", count),
        "blake3": _digests(count, rng),
        "suffix": pa.repeat(".tar", count),
        "size": pa.array(size),
        **{name: pa.nulls(count, pa.string()) for name in ("url", "etag", "version_id")},
        "index_blake3": _digests(count, rng),
        "index_size": pa.array(rng.integers(30_000, 50_000, count)),
        "samples": pa.array(np.full(count, SAMPLES_A_SHARD)),
        "selected": pa.nulls(count, pa.binary()),
        "bytes": pa.array(size - SAMPLES_A_SHARD * 1024),
        "tokens": pa.nulls(count, pa.int64()),
        "median_bytes": pa.MapArray.from_arrays(pa.array(np.arange(0, 2 * count + 1, 2, dtype=np.int32)), names, pa.array(medians)),
    }
    stored = Shards.of([]).to_table().schema
    columns["beside"] = pa.nulls(count, stored.field("beside").type)
    table = pa.table({name: columns[name] for name in stored.names}).cast(stored)
    return read_shards(write_shards(Shards.of_table(table)), where="a table of shards")


def metadata_of(shard: ShardRow, rng: np.random.Generator) -> pa.Table:
    """The metadata of the samples of a shard, as its writer has them."""
    keys = pa.array([f"{i:012d}" for i in rng.integers(10**12, size=shard.samples)])
    columns = {
        "row": pa.array(np.arange(shard.samples, dtype=np.int32)),
        "key": keys,
        "label": pa.nulls(shard.samples, pa.string()),
        "width": pa.array(np.full(shard.samples, 500, np.int32)),
        "height": pa.array(np.full(shard.samples, 375, np.int32)),
        "bytes": pa.array(rng.integers(90_000, 120_000, shard.samples)),
        "source": keys,
        "source_etag": keys,
        "source_blake3": _digests(shard.samples, rng),
    }
    return pa.table(columns, schema=pa.schema([METADATA.field(name) for name in columns]))


def _digests(count: int, rng: np.random.Generator) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(32), count, [None, pa.py_buffer(rng.bytes(32 * count))])


TASK = LimitTask(
    name="shards",
    summary="a version of 1,000,000 shards and 10⁹ samples",
    module="benchmarks.probes.shards",
    limits=(
        Limit("open and plan", "s", 2.0, "open the version, its split, and the order of an epoch, to the place of the first batch"),
        Limit("peak memory", "MB", 300.0, "of the process, with Python and all that it has imported"),
        Limit("seek", "ms", 50.0, "the worst of 20 random positions: its shard, as a reader wants it, and its row"),
        Limit("append", "ms", 300.0, "one more commit, of 16 shards, to the version that is open"),
        Limit("imports", "MB", None, "of the process before anything is opened"),
        Limit("open", "s", None, "the share of opening in the first figure"),
    ),
    prepare=prepare,
    samples=1_000_000_000,
    quick=2_000_000,
)

"""`where` over the metadata of 10⁸ samples, committed as a view.

A million samples a part, in shards of a thousand. To save disk all parts share one table of metadata with a million different rows, so
every part is read, decoded and filtered, and the same keys come in each. The probe knows how many samples must match.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from benchmarks.datasets import staged
from benchmarks.tasks import Limit, LimitTask, Prepared, Request
from benchmarks.tasks.shards import SAMPLES_A_SHARD, table_of_shards
from dataplane import Lake
from dataplane.catalog import Change, Part
from dataplane.manifest import METADATA, write_metadata, write_shards
from dataplane.parts import split_counts
from dataplane.schema import Field, Schema

DATASET = "many"
CONDITION = "label in ('class_007', 'class_042') and width >= 256"
ROWS_A_PART = 1_000_000
CLASSES = 1000
LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """The lake with the version `DATASET@1`, and how many of its samples the condition is true of."""

    lake: str
    samples: int
    matching: int


def prepare(request: Request) -> Prepared:
    """Make the version once, in the cache."""
    rows = min(ROWS_A_PART, request.samples) // SAMPLES_A_SHARD * SAMPLES_A_SHARD or SAMPLES_A_SHARD
    parts = max(1, request.samples // rows)
    folder = request.cache / f"where-{parts}x{rows}-{LAYOUT_VERSION}"
    request.cache.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with staged(folder) as staging:
            make_version(Lake.init(str(staging / "lake")), parts=parts, rows=rows)
    width, label = _drawn(rows)
    matching = parts * int((np.isin(label, (7, 42)) & (width >= 256)).sum())
    job = Job(str((folder / "lake").resolve()), parts * rows, matching)
    data = {"samples": job.samples, "parts": parts, "metadata": "one table, shared by all parts", "condition": CONDITION}
    return Prepared(job=asdict(job), data=data)


def make_version(lake: Lake, *, parts: int, rows: int) -> None:
    """Commit a version of so many parts of so many samples to an empty lake."""
    metadata = lake.objects.put(write_metadata(_metadata(rows)), suffix=".parquet")
    made = []
    for number in range(parts):
        shards = table_of_shards(rows // SAMPLES_A_SHARD, np.random.default_rng(number))
        made.append((Part(lake.objects.put(write_shards(shards), suffix=".parquet"), metadata, rows), shards))
    schema = Schema((Field("jpg", "image"),))
    lake.catalog.commit(DATASET, lambda _: Change("ingest", {}, schema, tuple(part for part, _ in made), split_counts(made)))


def _drawn(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Width and class of each row: classes as uneven as real ones are."""
    rng = np.random.default_rng(5)
    return rng.integers(64, 1024, rows).astype(np.int32), np.minimum(rng.exponential(200, rows), CLASSES - 1).astype(np.int64)


def _metadata(rows: int) -> pa.Table:
    rng = np.random.default_rng(6)
    width, label = _drawn(rows)
    keys = pa.array([f"{i // 1000:05d}/{i:012d}" for i in range(rows)])
    names = pa.array([f"class_{i:03d}" for i in range(CLASSES)])
    columns = {
        "shard": pa.array(np.repeat(np.arange(rows // SAMPLES_A_SHARD, dtype=np.int32), SAMPLES_A_SHARD)),
        "row": pa.array(np.tile(np.arange(SAMPLES_A_SHARD, dtype=np.int32), rows // SAMPLES_A_SHARD)),
        "key": keys,
        "label": names.take(pa.array(label)),
        "width": pa.array(width),
        "height": pa.array(rng.integers(64, 1024, rows).astype(np.int32)),
        "bytes": pa.array(rng.integers(20_000, 200_000, rows)),
        "source": keys,
        "source_etag": keys,
        "source_blake3": pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(rng.bytes(32 * rows))]),
    }
    return pa.table(columns, schema=METADATA)


TASK = LimitTask(
    name="where",
    summary=f"where over 10⁸ samples: {CONDITION}",
    module="benchmarks.probes.where",
    limits=(
        Limit("count", "s", 15.0, "open the version and count the samples that match"),
        Limit("commit", "s", 15.0, "find them again, and commit them as a view"),
        Limit("memory", "MB", 256.0, "the most that the process grew by, over what it had with all imported"),
        Limit("peak memory", "MB", None, "of the process, with Python and all that it has imported"),
    ),
    prepare=prepare,
    samples=100_000_000,
    quick=100_000,
)

"""The statistics of a version: its metadata counted piece by piece, its objects, and the colours of its pictures.

Nothing is kept: the metadata of ten million samples are counted in seconds, reading needs no right to write, and a lake holds no
derived numbers that could be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataplane.catalog import Part, Version
from dataplane.dataset import Dataset
from dataplane.errors import CorruptObject
from dataplane.lake import Lake
from dataplane.manifest import read_metadata
from dataplane.shards import Shards
from dataplane.stats.pixels import Limit, Pixels, measure_pixels
from dataplane.stats.tally import SIZES, Column, Tally

__all__ = ["ObjectCount", "Statistics", "Watch", "count_objects", "statistics"]

_ROWS: Final = 1 << 20  # samples that are in memory together
_NEVER_NULL_TEXT: Final = frozenset({"key", "source", "source_etag"})  # long, and nothing to count

Watch = Callable[[str, int, int], None]
"""Hears what is being counted, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """How many objects of a format the shards of a version consist of, and their bytes; `adopted` ones lie where they were found."""

    format: str
    adopted: bool
    count: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """As the document of `show` has it."""
        return {"format": self.format, "adopted": self.adopted, "objects": self.count, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a version holds. `pixels` is None where it has no pictures."""

    version: Version
    tally: Tally
    objects: tuple[ObjectCount, ...]
    pixels: Pixels | None

    @property
    def labels(self) -> dict[str | None, dict[str, int]]:
        """Samples of each label (None: no label) by split, the most frequent label first."""
        found: dict[str | None, dict[str, int]] = {}
        for (label, split), count in sorted(self.tally.labels.items(), key=lambda item: item[0][1]):
            found.setdefault(label, {})[split] = count
        return dict(sorted(found.items(), key=lambda item: (item[0] is None, -sum(item[1].values()), item[0] or "")))

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no sample of this version has."""
        have = {label for label, _ in self.tally.labels}
        return tuple(name for name in self.version.schema.classes if name not in have)

    def to_json(self) -> dict[str, Any]:
        """What `show --stats --json` has under `stats`. A number that is not finite is null."""
        labels = self.labels
        return {
            "samples": self.tally.samples,
            "labels": {label: counts for label, counts in labels.items() if label is not None},
            "unlabelled": labels.get(None, {}),
            "absent": list(self.absent),
            "bytes": self.tally.bytes.to_json(),
            "shapes": [
                {"width": [SIZES[x], SIZES[x + 1]], "height": [SIZES[y], SIZES[y + 1]], "count": count}
                for (x, y), count in sorted(self.tally.shapes.cells.items())
            ],
            "aspects": self.tally.aspects.to_json(),
            "columns": {name: column_to_json(column, self.tally.samples) for name, column in self.tally.columns.items()},
            "images": self.pixels.to_json() if self.pixels else None,
        }


def statistics(lake: Lake, spec: str, *, images: Limit = 512, watch: Watch = lambda *_: None) -> Statistics:
    """The statistics of the version `NAME[@VERSION]`. Of its pictures at most `images` are decoded, the same ones each time.

    Pictures that cannot be decoded are listed. All metadata are read, in memory that does not grow with the number of samples.
    """
    dataset = lake.dataset(spec)
    total = Tally()
    for number, (part, shards) in enumerate(dataset.parts):
        watch("counting", number, len(dataset.parts))
        for table in _pieces(lake, part, shards):
            total += Tally.of(table)
    pixels = None
    if dataset.schema.names("image"):
        pixels = measure_pixels(dataset, images, watch=lambda done, of: watch("looking at pictures", done, of))
    return Statistics(dataset.version, total, count_objects(dataset), pixels)


def count_objects(dataset: Dataset) -> tuple[ObjectCount, ...]:
    """The objects that the wanted shards of a version consist of, by format and by where they lie. O(shards), in columns."""
    found: dict[tuple[str, bool], tuple[int, int]] = {}
    for _, shards in dataset.parts:
        wanted = shards.to_table().filter(pa.array(shards.live > 0))
        beside = pc.list_flatten(wanted.column("beside")).combine_chunks().flatten()
        names = [field.name for field in wanted.schema.field("beside").type.value_type]
        for table in (wanted, pa.table(beside, names)):
            pieces = pa.table(
                {"format": table.column("format"), "adopted": pc.is_null(table.column("blake3")), "size": table.column("size")}
            )
            for row in pieces.group_by(["format", "adopted"]).aggregate([([], "count_all"), ("size", "sum")]).to_pylist():
                count, size = found.get((row["format"], row["adopted"]), (0, 0))
                found[row["format"], row["adopted"]] = count + row["count_all"], size + row["size_sum"]
    return tuple(ObjectCount(*kind, *counted) for kind, counted in sorted(found.items()))


def column_to_json(column: Column, samples: int) -> dict[str, Any]:
    """A column, of a version with so many samples."""
    nulls = samples - column.valid
    found: dict[str, Any] = {"type": " | ".join(sorted(column.types)), "nulls": nulls, "null_rate": nulls / samples if samples else 0.0}
    if column.moments is not None:
        moments = column.moments
        numbers: Mapping[str, float | None] = {
            "min": moments.low,
            "max": moments.high,
            "mean": moments.mean if moments.count else None,
            "deviation": moments.deviation if moments.count else None,
        }
        found |= {name: value if value is None or math.isfinite(value) else None for name, value in numbers.items()}
        found["not_finite"] = moments.odd
    elif column.first is not None:
        found |= {"min": column.first, "max": column.last}
    return found


def _pieces(lake: Lake, part: Part, shards: Shards) -> Iterator[Any]:
    """The metadata of the samples that are wanted of a part, a million rows at a time, with `split` added and long text left out."""
    where = f"{lake.url}/{part.metadata.path}"
    data = lake.objects.get(part.metadata)
    read_metadata(data, where=where, columns=[])  # raises what there is to say about its format
    whole = shards.live.sum() == shards.samples.sum()
    try:
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
        names = [name for name in file.schema_arrow.names if name not in _NEVER_NULL_TEXT]
        for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
            table = pa.Table.from_batches([batch])
            shard, row = (table.column(name).to_numpy() for name in ("shard", "row"))
            table = table.append_column("split", shards.split_of(shard))
            yield table if whole else table.filter(pa.array(shards.wants(shard, row)))
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error
